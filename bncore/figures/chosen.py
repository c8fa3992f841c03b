"""Which recordings of many a figure shows, and what their lines are called."""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from bncore.figures import theme
from bncore.figures.arms import arms_of_results
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
    moment: str = ""
    """What a dash says of it: that it is the first or the last of its run, and of which step; empty in between."""


@dataclass(frozen=True)
class Chosen:
    """Recordings of one kind, with the labels of what tells them apart, in order."""

    shown: list[Shown]
    said: str
    """What the labels of arms are values of."""
    arms: list[str]
    steps: list[str]
    moments: list[str]
    """What dashes say, one or two things: runs that ended at unlike steps have their last ones in common."""

    @property
    def is_one(self) -> bool:
        """Whether it is one arm, so that steps are what is compared."""
        return len(self.arms) == 1

    @property
    def subtitle(self) -> str:
        """What no legend says."""
        when = self.steps if self.is_one else self.moments
        words = [*(self.arms if self.is_one else []), *(when if len(when) == 1 else [])]
        return ", ".join(word for word in words if word)

    def left_out(self, panels: int, most: int) -> list[str]:
        """What a figure with a panel for one run of an arm has to say: of many arms some, of several seeds one."""
        words = [f"{most} of {panels} are shown"] if panels > most else []
        seeds = len({one.experiment for one in self.shown}) > len({one.arm for one in self.shown})
        return [*words, "of one seed each"] if seeds else words

    def for_dashes(self, labels: Sequence[str], options: Options) -> "Chosen":
        """What can be drawn where colours stand for the labels and dashes for moments: more labels than colours need
        the dashes for themselves, and the last of each run is left."""
        if len(labels) <= theme.most_colours(options) or len(self.moments) < 2:
            return self
        return self.last

    @property
    def last(self) -> "Chosen":
        """The last of each run alone."""
        last = {one.experiment: one for one in self.shown}
        shown = list(last.values())
        return replace(self, shown=shown, steps=_steps(shown), moments=_moments(shown))


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
    arms = arms_of_results(there)
    if len(arms.arms) > theme.most_lines(options):
        raise FigureRefused("too_many_arms", f"At most {theme.most_lines(options)} kinds of experiments fit")
    most = MOST_STEPS if len(arms.arms) == 1 else 2

    def shown() -> Iterator[Shown]:
        for arm in arms.arms:
            for experiment in arm.experiments:
                for recording in few(there[experiment].recordings[kind], most):
                    yield Shown(experiment, arm.label, step_words(recording.step), recording)

    found = _with_moments(list(shown()))
    return Chosen(found, arms.said, arms.labels, _steps(found), _moments(found))


def _with_moments(found: Sequence[Shown]) -> list[Shown]:
    """The first and the last of each run, by their steps where these are two, or else by what they are."""
    runs: dict[str, list[Shown]] = {}
    for one in found:
        runs.setdefault(one.experiment, []).append(one)
    firsts = {run[0].recording.step for run in runs.values() if len(run) > 1}
    lasts = {run[-1].recording.step for run in runs.values() if len(run) > 1 or run[0].recording.step not in firsts}
    is_said = len(firsts | lasts) <= 2

    def moment(one: Shown) -> str:
        run, step = runs[one.experiment], one.recording.step
        if one is run[-1] and step in lasts:
            return one.step if is_said else _span("last", lasts)
        return "" if one is not run[0] else one.step if is_said else _span("first", firsts)

    return [replace(one, moment=moment(one)) for one in found]


def _span(which: str, steps: Collection[int]) -> str:
    if len(steps) == 1:
        return step_words(min(steps))
    return f"{which} of each run, steps {min(steps):,} to {max(steps):,}"


def _in_order(found: Sequence[Shown]) -> list[Shown]:
    return sorted(found, key=lambda one: one.recording.step)


def _steps(found: Sequence[Shown]) -> list[str]:
    return list(dict.fromkeys(one.step for one in _in_order(found)))


def _moments(found: Sequence[Shown]) -> list[str]:
    return list(dict.fromkeys(one.moment for one in _in_order(found) if one.moment))
