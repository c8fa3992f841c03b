"""Sweeps that are pruned: the same points stay, whatever ends first, is asked in between, or looks twice."""

import random
from typing import Any

import pytest

from bncore.events import MetricsBlock
from bncore.spec.sweep import expand, load_sweep
from store import experiments, sweeps, work
from store.errors import IllegalTransition, Pruned
from store.jobs import wishes
from store.jobs.leases import Terms
from store.jobs.states import State
from store.jobs.wishes import By
from store.queueing import Limits
from store.sweeps import SweepSubmission, pruning, rungs
from store.tables import SweepRung
from tests.store.sweep_rows import now, rows_of, state
from worker.pruning import Pruning

ME = By("own_1", "key_1")
KEY = "validation/accuracy"
RATES = [number / 10 for number in range(1, 10)]
SWEEP: dict[str, Any] = {
    "template": {
        "data": {"kind": "digits", "validation": {"share": 0.2}},
        "train": {"steps": 100},
        "evaluation": {"every_steps": 5},
    },
    "axes": {"optimizer.lr": RATES},
    "arms": {"bn": {}, "none": {"network.norm.kind": "none"}},
    "seeds": 2,
    "prune": {"metric": KEY, "first_steps": 10, "factor": 3},
}


def submit(lab: Any, owner: str = "own_1", limits: Limits | None = None, **said: Any) -> Any:
    spec = load_sweep({**SWEEP, **said})
    with lab.database.write() as session:
        made = SweepSubmission.of(spec, expand(spec))
        return sweeps.submit(session, spec, made, owner=owner, device="cpu", key_id="key_1", limits=limits)


def value(row: Any, step: int) -> float:
    """The best rates are in the middle; of a point the seeds differ, and the best changes with the steps."""
    rate = row.values["optimizer.lr"]
    return 1.0 - abs(rate - 0.5 - step / 1000) - row.seed / 100 - (0.3 if row.arm == "none" else 0.0)


def progress(lab: Any, sweep: Any) -> list[Any]:
    with lab.database.read() as session:
        return rungs.progress(session, sweeps.get(session, sweep.id))


def decisions(lab: Any, sweep: Any) -> list[Any]:
    with lab.database.read() as session:
        return [
            (row.bracket, row.number, row.step, row.points, row.kept, row.ranking)
            for row in session.query(SweepRung).where(SweepRung.sweep_id == sweep.id).order_by("bracket", "number")
        ]


def asking(lab: Any, call: Any, *arguments: Any, **named: Any) -> Any:
    with lab.database.write() as session:
        return call(session, *arguments, **named)


def ask(lab: Any, sweep: Any, call: Any, **named: Any) -> Any:
    with lab.database.write() as session:
        return call(session, sweeps.get(session, sweep.id), ME, **named)


def train(lab: Any, claim: Any, row: Any, outcome: Any = None) -> None:
    """To where it rests, or to its end, or to another outcome."""
    end = claim.rest_at or 100
    done = outcome or (work.Rested(end) if claim.rest_at else work.Succeeded("budget", {}))
    if claim.restore_step != end:
        found = {KEY: [value(row, end)], "train/loss": [1.0]}
        lab.append(claim.lease, MetricsBlock(first_step=end, count=1, values=found))
        lab.checkpoint(claim.lease, "last", end)
    lab.finish(claim.lease, done)


def run_all(lab: Any, sweep: Any, order: random.Random | None = None, but: tuple[str, ...] = ()) -> int:
    """All that is queued, in any order; how many attempts."""
    claims = []
    while (claim := lab.claim()) is not None:
        claims.append(claim)
    (order or random.Random(0)).shuffle(claims)
    rows = {row.experiment.id: row for row in rows_of(lab, sweep)}
    for claim in claims:
        if claim.lease.job_id in rows and claim.lease.job_id not in but:
            train(lab, claim, rows[claim.lease.job_id])
    return len(claims)


def through(lab: Any, sweep: Any, seed: int = 0, lookers: int = 1) -> None:
    order = random.Random(seed)
    looks = [Pruning(lab.database) for _ in range(lookers)]
    for _ in range(20):
        run_all(lab, sweep, order)
        order.choice(looks).turn()
        if state(lab, sweep) not in (State.QUEUED, State.RUNNING):
            return
    raise AssertionError("it has not ended")


def by_hand(rates: list[float], arm: str, seeds: int = 2) -> list[list[int]]:
    """The points that go on from each rung, by their places on the axis."""
    left, found = list(range(len(rates))), []
    for step in (10, 30):

        def mean(place: int, step: int = step) -> float:
            rows = [
                type("R", (), {"values": {"optimizer.lr": rates[place]}, "seed": s, "arm": arm}) for s in range(seeds)
            ]
            return sum(value(row, step) for row in rows) / seeds

        left = sorted(sorted(left, key=lambda place: (-mean(place), place))[: max(1, len(left) // 3)])
        found.append(left)
    return found


def test_the_same_points_stay_in_whatever_order_runs_come_and_whoever_looks(lab: Any) -> None:
    found = []
    for seed in range(2):
        sweep = submit(lab)
        through(lab, sweep, seed, lookers=seed + 1)
        found.append(decisions(lab, sweep))
        assert (state(lab, sweep), now(lab, sweep).prune_state, now(lab, sweep).rungs_decided) == (
            State.SUCCEEDED, "done", 4
        )  # fmt: skip
        rows = rows_of(lab, sweep)
        for at, arm in enumerate(("bn", "none")):
            first, second = by_hand(RATES, arm)
            for row in (row for row in rows if row.arm == arm):
                place = row.point // 2
                assert row.point % 2 == at
                ended = (row.experiment.state, row.experiment.failure_code, row.experiment.step)
                want = 10 if place not in first else 30
                assert ended == ((State.SUCCEEDED, None, 100) if place in second else (State.CANCELLED, "pruned", want))
    assert found[0] == found[1]
    assert [row[:5] for row in found[0]] == [
        (arm, number, step, points, kept) for arm in ("bn", "none")
        for number, step, points, kept in ((0, 10, 9, 3), (1, 30, 3, 1))
    ]  # fmt: skip


def test_a_run_tells_why_it_was_ended_and_cannot_be_tried_again(lab: Any) -> None:
    sweep = submit(lab, arms={}, seeds=1)
    run_all(lab, sweep)
    assert Pruning(lab.database).turn()
    ended = next(row.experiment for row in rows_of(lab, sweep) if row.point == 8)
    # 0.9 lies at 0.39 from the best at step 10, farther than all others but 0.1.
    assert ended.failure_message == "Pruned at step 10: ranked 8 of 9 by validation/accuracy 0.61."
    with lab.database.read() as session:
        lines = [line.message for line in experiments_log(session, ended.id)]
    assert lines[-2:] == ["Rests at step 10 until its rung is decided.", ended.failure_message]
    with pytest.raises(Pruned, match="clone it"):
        asking(lab, wishes.retry, ended.id, ME)
    # Nor with all others; those that go on were never cancelled.
    assert ask(lab, sweep, sweeps.retry, limits=Limits(), cancelled=True) == 0
    with lab.database.read() as session:
        gone = rungs.ended(session, now(lab, sweep))
    assert (gone[8].step, gone[8].rank, gone[8].of, gone[8].mean) == (10, 8, 9, pytest.approx(0.61))
    assert sorted(gone) == [0, 1, 2, 6, 7, 8]


def experiments_log(session: Any, experiment_id: str) -> Any:
    from store.tables import JobEvent

    return session.query(JobEvent).where(JobEvent.job_id == experiment_id).order_by(JobEvent.number).all()


def test_what_two_decide_at_once_is_decided_once(lab: Any) -> None:
    sweep = submit(lab)
    run_all(lab, sweep)
    before = lab.everything()
    with lab.database.read() as session:
        assert rungs.is_ready(session, now(lab, sweep))
    assert [asking(lab, pruning.decide, sweep.id) for _ in range(2)] == [2, 0]
    after = lab.everything()
    assert after != before
    assert asking(lab, pruning.decide, sweep.id) == 0
    assert {name: rows for name, rows in lab.everything().items() if rows != after[name]} == {}


def test_an_arm_does_not_wait_for_another_and_starves_none(lab: Any) -> None:
    sweep = submit(lab)
    rows = {row.experiment.id: row for row in rows_of(lab, sweep)}
    slow = tuple(one for one, row in rows.items() if row.arm == "none")
    run_all(lab, sweep, but=slow)
    assert Pruning(lab.database).turn()
    assert [(rung.bracket, rung.step, rung.points, rung.kept, rung.decided_at is not None, rung.awaited)
            for rung in progress(lab, sweep)] == [
        ("bn", 10, 9, 3, True, None), ("bn", 30, 3, 1, False, 6), ("none", 10, 9, 3, False, 18),
        ("none", 30, 3, 1, False, None),
    ]  # fmt: skip
    # Ranked together, the worse arm is gone.
    together = submit(lab, prune={**SWEEP["prune"], "within": "sweep"}, owner="own_2")
    through(lab, together)
    assert {row.arm for row in rows_of(lab, together) if row.experiment.state is State.SUCCEEDED} == {"bn"}
    assert [row[:5] for row in decisions(lab, together)] == [
        ("", 0, 10, 18, 6), ("", 1, 30, 6, 2), ("", 2, 90, 2, 1)
    ]  # fmt: skip


def test_what_diverged_failed_or_ended_at_its_target_is_ranked_as_that(lab: Any) -> None:
    sweep = submit(lab, arms={}, seeds=1)
    outcomes = {
        0: work.Succeeded("target_reached", {}),
        4: work.Succeeded("diverged", {}),
        5: work.Failed("trainer_error", "x"),
    }
    rows = {row.experiment.id: row for row in rows_of(lab, sweep)}
    while (claim := lab.claim()) is not None:
        row = rows[claim.lease.job_id]
        train(lab, claim, row, outcomes.get(row.point))
    # A training loss that is no number is a divergence that has not come to its step yet.
    assert Pruning(lab.database).turn()
    ((*_, ranking),) = decisions(lab, sweep)
    assert [(one["point"], one["outcome"], one["kept"]) for one in ranking] == [
        (3, "measured", True), (6, "measured", True), (2, "measured", True), (7, "measured", False),
        (1, "measured", False), (8, "measured", False), (0, "measured", False), (4, "lost", False),
        (5, "unknown", False),
    ]  # fmt: skip
    states = {row.point: (row.experiment.state, row.experiment.failure_code) for row in rows_of(lab, sweep)}
    assert states[0] == (State.SUCCEEDED, None)
    assert states[4] == (State.SUCCEEDED, None)
    assert states[5] == (State.FAILED, "trainer_error")
    # Tried again it comes to the rung, where its point has been ended.
    failed = next(one for one, row in rows.items() if row.point == 5)
    asking(lab, wishes.retry, failed, ME)
    through(lab, sweep)
    assert (lab.get(failed).state, lab.get(failed).failure_code, lab.get(failed).step) == (
        State.CANCELLED, "pruned", 10
    )  # fmt: skip
    assert state(lab, sweep) is State.SUCCEEDED


def test_a_loss_that_is_no_number_is_no_contender(lab: Any) -> None:
    sweep = submit(lab, arms={}, seeds=1, axes={"optimizer.lr": [0.1, 0.5, 0.6]})
    rows = {row.experiment.id: row for row in rows_of(lab, sweep)}
    while (claim := lab.claim()) is not None:
        row = rows[claim.lease.job_id]
        if row.point == 1:
            lab.append(claim.lease, MetricsBlock(first_step=1, count=1, values={"train/loss": [float("nan")]}))
        train(lab, claim, row)
    Pruning(lab.database).turn()
    ((*_, ranking),) = decisions(lab, sweep)
    assert [(one["point"], one["outcome"]) for one in ranking] == [(2, "measured"), (0, "measured"), (1, "lost")]


def test_an_owner_who_pauses_a_run_holds_its_bracket(lab: Any) -> None:
    sweep = submit(lab, arms={}, seeds=1)
    run_all(lab, sweep)
    held = rows_of(lab, sweep)[4].experiment.id
    assert (lab.get(held).state, lab.get(held).phase) == (State.PAUSED, "resting")
    asking(lab, wishes.resume, held, ME)
    assert lab.get(held).state is State.PAUSED  # nobody had paused it
    lab.ask(held, "pause", ME)
    assert (lab.get(held).state, lab.get(held).phase) == (State.PAUSED, None)
    assert (Pruning(lab.database).turn(), state(lab, sweep)) == (False, State.PAUSED)
    asking(lab, wishes.resume, held, ME)
    assert lab.get(held).state is State.QUEUED
    assert run_all(lab, sweep) == 1
    assert (lab.get(held).state, lab.get(held).phase) == (State.PAUSED, "resting")
    through(lab, sweep)
    assert sum(row.experiment.state is State.SUCCEEDED for row in rows_of(lab, sweep)) == 1


def test_nothing_is_pruned_of_a_sweep_that_rests_or_was_cancelled(lab: Any) -> None:
    sweep = submit(lab, arms={}, seeds=1)
    run_all(lab, sweep)
    assert (state(lab, sweep), ask(lab, sweep, sweeps.pause)) == (State.RUNNING, 0)
    assert (state(lab, sweep), Pruning(lab.database).turn()) == (State.PAUSED, False)
    assert (ask(lab, sweep, sweeps.resume, limits=Limits(1)), state(lab, sweep)) == (0, State.RUNNING)
    assert ask(lab, sweep, sweeps.cancel) == 9
    assert (state(lab, sweep), Pruning(lab.database).turn()) == (State.CANCELLED, False)
    # One alone is tried again: nobody will decide whether it goes on.
    alone = rows_of(lab, sweep)[0].experiment.id
    asking(lab, wishes.retry, alone, ME)
    run_all(lab, sweep)
    assert (lab.get(alone).state, lab.get(alone).step) == (State.SUCCEEDED, 100)
    # All of it: that one is ranked by what it had at the rung.
    assert ask(lab, sweep, sweeps.retry, limits=Limits(), cancelled=True) == 8
    run_all(lab, sweep)
    assert Pruning(lab.database).turn()
    ((*_, ranking),) = decisions(lab, sweep)
    assert next(one["mean"] for one in ranking if one["point"] == 0) == value(rows_of(lab, sweep)[0], 10)
    through(lab, sweep)
    assert state(lab, sweep) is State.SUCCEEDED


def test_a_point_whose_runs_its_owner_takes_away_is_ranked_last(lab: Any) -> None:
    sweep = submit(lab, arms={}, seeds=2)
    rows = rows_of(lab, sweep)
    best = [row.experiment.id for row in rows if row.point == 4]
    lab.ask(best[0], "cancel", ME)
    asking(lab, experiments.delete, best[0], ME)
    through(lab, sweep)
    (first, *_) = decisions(lab, sweep)
    assert first[-1][-1] == {"point": 4, "rank": 9, "outcome": "unknown", "mean": None, "kept": False}
    assert lab.get(best[1]).failure_message.startswith("Pruned at step 10: ranked 9 of 9 as a seed failed")


def test_winners_go_on_where_their_owner_has_filled_the_queue_and_others_are_not_held_up(lab: Any) -> None:
    sweep = submit(lab, arms={}, seeds=1, limits=Limits(9))
    other = submit(lab, owner="own_2", arms={}, seeds=1)
    run_all(lab, sweep)
    for _ in range(9):
        lab.submit()
    assert Pruning(lab.database).turn()
    assert sum(row.experiment.state is State.QUEUED for row in rows_of(lab, sweep)) == 3
    with pytest.raises(Exception, match="9"):
        submit(lab, arms={}, seeds=1, limits=Limits(9))
    assert decisions(lab, other) == []


def test_more_sweeps_than_are_looked_at_at_once_all_get_their_turn(lab: Any) -> None:
    all_of_them = [submit(lab, arms={}, seeds=1, axes={"optimizer.lr": [0.1, 0.2, 0.3]}) for _ in range(23)]
    looks = Pruning(lab.database)
    for sweep in all_of_them[20:]:
        for row in rows_of(lab, sweep):
            lab.ask(row.experiment.id, "cancel", ME)
    looks.turn()
    assert [now(lab, sweep).prune_state for sweep in all_of_them[20:]] == ["open"] * 3
    looks.turn()
    assert [now(lab, sweep).prune_state for sweep in all_of_them[20:]] == ["done"] * 3


def test_a_sweep_cannot_be_deleted_while_it_is_decided(lab: Any) -> None:
    sweep = submit(lab, arms={}, seeds=1)
    run_all(lab, sweep)
    with pytest.raises(IllegalTransition):
        ask(lab, sweep, sweeps.delete)
    through(lab, sweep)
    ask(lab, sweep, sweeps.delete)
    assert decisions(lab, sweep) == []


def test_terms_of_a_claim_say_where_it_rests(lab: Any) -> None:
    submit(lab, arms={}, seeds=1)
    claim = lab.claim(terms=Terms(60.0))
    assert (claim.rest_at, "rest_at" in claim.spec) == (10, False)
    assert lab.submit()
    lab.release(claim.lease)
