"""Which recordings of many a figure shows, and what their lines are called."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from bncore.figures import theme
from bncore.figures.arms import arms_of
from bncore.figures.results import FigureRefused, Options, Results
from bncore.recording import Recording

Item = TypeVar("Item")
MOST_STEPS = 5
"""Of one arm; of several two."""


@dataclass(frozen=True)
class Shown:
    """A recording as a line or a panel of a figure."""

    experiment: str
    arm: str
    step: str
    """As words, for a legend."""
    recording: Recording


@dataclass(frozen=True)
class Chosen:
    """Recordings of one kind, with the labels of what tells them apart, in order."""

    shown: list[Shown]
    said: str
    """What the labels of arms are values of."""
    arms: list[str]
    steps: list[str]

    @property
    def is_one(self) -> bool:
        """Whether it is one arm, so that steps are what is compared."""
        return len(self.arms) == 1

    @property
    def subtitle(self) -> str:
        """What no legend says."""
        words = [*(self.arms if self.is_one else []), *(self.steps if len(self.steps) == 1 else [])]
        return ", ".join(word for word in words if word)


def chosen(results: Results, kind: str, options: Options) -> Chosen:
    """Of one arm recordings at a few steps, the first and the last among them; of several the first and the last.

    Raises `FigureRefused`.
    """
    return _chosen(results, kind, options, few)


def chosen_all(results: Results, kind: str, options: Options) -> Chosen:
    """All recordings of a kind, for what is drawn over steps. Raises `FigureRefused`."""
    return _chosen(results, kind, options, lambda recordings, _: list(recordings))


def few(items: Sequence[Item], most: int) -> list[Item]:
    """At most so many, 2 or more, evenly spread, the first and the last among them."""
    last = len(items) - 1
    places = {round(at * last / (most - 1)) for at in range(most)} if last > 0 else range(len(items))
    return [items[place] for place in sorted(places)]


def step_words(step: int) -> str:
    """A step as a legend says it."""
    return "before training" if step == 0 else f"step {step:,}"


def _chosen(
    results: Results, kind: str, options: Options, few: Callable[[Sequence[Recording], int], list[Recording]]
) -> Chosen:
    there = {one: result for one, result in results.items() if result.recordings.get(kind)}
    if not there:
        raise FigureRefused("nothing_to_draw", f"There is no recording of {kind} yet")
    arms = arms_of({one: result.spec for one, result in there.items()})
    if len(arms.arms) > theme.most_lines(options):
        raise FigureRefused("too_many_arms", f"At most {theme.most_lines(options)} kinds of experiments fit")
    most = MOST_STEPS if len(arms.arms) == 1 else 2

    def shown() -> Iterator[Shown]:
        for arm in arms.arms:
            for experiment in arm.experiments:
                for recording in few(there[experiment].recordings[kind], most):
                    yield Shown(experiment, arm.label, step_words(recording.step), recording)

    found = list(shown())
    steps = {one.recording.step: one.step for one in sorted(found, key=lambda one: one.recording.step)}
    return Chosen(found, arms.said, arms.labels, list(steps.values()))
