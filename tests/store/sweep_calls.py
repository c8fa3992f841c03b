"""What is done with sweeps all day, for the test of plans."""

import functools
from collections.abc import Callable, Iterator
from typing import Any

from bench.rows import job_id
from bncore.spec.sweep import Extension, expand, extended, load_sweep
from store import sweeps
from store.idempotency import Scope
from store.jobs import leases, wishes
from store.jobs.wishes import By
from store.queueing import Limits
from store.sweeps import pruning, rungs, searching


def sweeps_of(reading: Any, writing: Any, at: int) -> Iterator[tuple[str, Callable[[], object]]]:
    """A sweep in the middle of many, looked at, changed, extended and deleted."""
    one, gone = job_id(1600 + at, "swp"), job_id(151 + at, "swp")
    who, limits = By(None), Limits(10_000, 10**12)
    asked = load_sweep({"template": {"train": {"steps": 10}}, "axes": {"optimizer.lr": [0.1, 0.2]}})
    made = sweeps.SweepSubmission.of(asked, expand(asked))

    def found(call: Callable[..., object]) -> Callable[..., object]:
        return lambda session: call(session, sweeps.get(session, one))

    scope = Scope("own_0", "POST", "/v1/sweeps", leases.new_token())
    for place in range(2):
        again = "again" * place
        call = writing(lambda session: sweeps.submit_once(session, scope, asked, made, device="cpu", limits=limits))
        yield f"submit a sweep {again}", call
    for owner in ("own_0", None):
        cursor: list[str | None] = [None]

        def page(session: Any, owner: str | None = owner, cursor: list[str | None] = cursor) -> None:
            cursor[0] = sweeps.page(session, owner, cursor[0]).next_cursor

        yield f"list sweeps of {owner}", reading(page)
        yield f"list sweeps of {owner}, further", reading(page)
    behind: list[str | None] = [None]

    def members(session: Any) -> None:
        behind[0] = sweeps.members(session, one, behind[0]).next_cursor

    yield "members", reading(members)
    yield "members, further", reading(members)
    some = [job_id(number, "swp") for number in range(20)]
    yield "standings", reading(lambda session: sweeps.standings(session, some))
    yield "marks of sweeps", reading(lambda session: sweeps.marks(session, some))
    for behind_one in ("", job_id(5, "swp")):
        yield (
            f"searches due behind {behind_one!r}",
            reading(lambda session, one=behind_one: searching.due(session, one, 20)),
        )
        yield (
            f"prunings due behind {behind_one!r}",
            reading(lambda session, one=behind_one: rungs.due(session, one, 20)),
        )
    yield "stop a search", writing(lambda session: searching.move(session, one, ["open", "paused"], "stopped"))
    yield "measured", reading(found(lambda session, sweep: sweeps.measured(session, sweep, ["train/loss"])))
    yield "sweep of an experiment", reading(lambda session: sweeps.of_experiment(session, job_id(7500)))
    yield "pause a sweep", writing(found(lambda session, sweep: sweeps.pause(session, sweep, who)))
    yield "resume a sweep", writing(found(lambda session, sweep: sweeps.resume(session, sweep, who, limits)))
    yield "cancel a sweep", writing(found(lambda session, sweep: sweeps.cancel(session, sweep, who)))
    yield from _pruned(reading, writing, who, limits)
    again = functools.partial(sweeps.retry, by=who, limits=limits, cancelled=True)
    yield "retry a sweep", writing(found(again))
    yield (
        "extend a sweep",
        writing(found(lambda session, sweep: sweeps.extend(session, sweep, grown(sweep), key_id=None, limits=limits))),
    )
    yield (
        "delete a sweep",
        writing(lambda session: sweeps.delete(session, sweeps.get(session, gone), By("own_none"))),
    )


def grown(sweep: Any) -> sweeps.SweepSubmission:
    """One more seed, which no other call has taken."""
    asked = load_sweep({"template": {"train": {"steps": 10}}, "axes": {"optimizer.lr": [0.1, 0.2]}})
    more = Extension(seeds=[max(sweep.seeds) + 1])
    return sweeps.SweepSubmission.of(more, extended(asked, sweep.seeds, more))


def _pruned(reading: Any, writing: Any, who: By, limits: Limits) -> Iterator[tuple[str, Callable[[], object]]]:
    """A pruned sweep whose rung is decided, all of its experiments having ended before."""
    data, often = {"kind": "digits", "validation": {"share": 0.2}}, {"every_steps": 10}
    template = {"data": data, "train": {"steps": 40}, "evaluation": often}
    prune = {"kind": "successive_halving", "metric": "validation/accuracy", "first_steps": 10, "factor": 2}
    asked = load_sweep({"template": template, "axes": {"optimizer.lr": [0.1, 0.2, 0.3, 0.4]}, "prune": prune})
    made = sweeps.SweepSubmission.of(asked, expand(asked))
    ids: list[str] = []

    def submit(session: Any) -> None:
        scope = Scope("own_0", "POST", "/v1/sweeps", leases.new_token())
        ids.append(sweeps.submit_once(session, scope, asked, made, device="cpu", limits=limits)[0].id)

    yield "submit a pruned sweep", writing(submit)
    for name, call in (
        ("ready", rungs.is_ready),
        ("progress", rungs.progress),
        ("ended", rungs.ended),
        ("foreseen", sweeps.foreseen),
    ):
        yield name, reading(lambda session, call=call: call(session, sweeps.get(session, ids[-1])))
    yield "decide nothing", writing(lambda session: pruning.decide(session, ids[-1]))

    def end(session: Any) -> None:
        wishes.ask_all(session, [one.experiment.id for one in sweeps.members(session, ids[-1]).rows], "cancel", who)

    yield "end those of a rung", writing(end)
    yield "decide a rung", writing(lambda session: pruning.decide(session, ids[-1]))
    yield "ended by a rung", reading(lambda session: rungs.ended(session, sweeps.get(session, ids[-1])))
