"""Sweeps in the store: all of their experiments at once, whatever is asked."""

import json
import time
from typing import Any

import pytest
from sqlalchemy import func, select, text

from bncore.events import MetricsBlock
from bncore.spec.sweep import Extension, expand, extended, load_sweep
from store import experiments, migrate, orphans, purging, sweeps, work
from store.columns import core
from store.errors import (
    CursorInvalid,
    IdempotencyConflict,
    IllegalTransition,
    QuotaExceeded,
    SweepChanged,
    SweepNotFound,
)
from store.idempotency import Scope
from store.jobs.states import State
from store.jobs.wishes import By
from store.queueing import Limits
from store.sweeps import SweepSubmission
from store.tables import Job
from tests.store.sweep_rows import rows_of

ME = By("own_1", "key_1")
KEY = Scope("own_1", "POST", "/v1/sweeps", "k")


def spec(lrs: Any = (0.1, 0.2), **said: Any) -> Any:
    return load_sweep(
        {
            "name": "s",
            "template": {"train": {"steps": 100}},
            "axes": {"optimizer.lr": list(lrs)},
            "arms": {"bn": {}, "none": {"network.norm.kind": "none"}},
            "seeds": 2,
            **said,
        }
    )


def submit(lab: Any, asked: Any = None, limits: Limits | None = None, owner: str = "own_1") -> Any:
    asked = asked or spec()
    with lab.database.write() as session:
        made = SweepSubmission.of(asked, expand(asked))
        return sweeps.submit(session, asked, made, owner=owner, device="cpu", key_id="key_1", limits=limits)


def standing(lab: Any, sweep: Any) -> Any:
    with lab.database.read() as session:
        return sweeps.standing(session, sweep.id)


def asking(lab: Any, call: Any, *arguments: Any, **named: Any) -> Any:
    with lab.database.write() as session:
        return call(session, *arguments, **named)


def finish(lab: Any, outcome: Any, step: int = 100) -> str:
    claim = lab.claim()
    lab.finish(claim.lease, outcome)
    lab.change(claim.lease.job_id, step=step)
    return claim.lease.job_id


def test_a_sweep_is_stored_with_its_experiments_as_if_each_had_been_submitted(lab: Any) -> None:
    sweep = submit(lab)
    rows = rows_of(lab, sweep)
    assert (sweep.owner, sweep.name, sweep.seeds, sweep.points) == ("own_1", "s", [0, 1], 4)
    assert [(row.seed, row.values["optimizer.lr"], row.arm, row.point) for row in rows] == [
        (seed, lr, arm, number)
        for seed in (0, 1)
        for number, (lr, arm) in enumerate((lr, arm) for lr in (0.1, 0.2) for arm in ("bn", "none"))
    ]
    for row in rows:
        alone = lab.spec(
            train={"steps": 100, "seed": row.seed},
            optimizer={"kind": "sgd", "lr": row.values["optimizer.lr"]},
            network={"kind": "mlp", "norm": {"kind": "batch_norm" if row.arm == "bn" else "none"}},
        )
        stored = row.experiment
        assert (stored.fingerprint, stored.spec) == (alone.fingerprint(), alone.model_dump(mode="json"))
        assert (stored.total_steps, stored.state, stored.owner, stored.key_id) == (100, "queued", "own_1", "key_1")
    # They are claimed in the order of the sweep: what is compared trains side by side.
    assert [lab.claim().lease.job_id for _ in rows] == [row.experiment.id for row in rows]


def test_pages_of_experiments_go_on_where_they_ended(lab: Any) -> None:
    sweep, other = submit(lab), submit(lab)
    seen: list[str] = []
    cursor = None
    with lab.database.read() as session:
        while True:
            found = sweeps.members(session, sweep.id, cursor, 3)
            seen += [row.experiment.id for row in found.rows]
            cursor = found.next_cursor
            if cursor is None:
                break
        assert seen == [row.experiment.id for row in rows_of(lab, sweep)]
        with pytest.raises(CursorInvalid):
            sweeps.members(session, other.id, sweeps.members(session, sweep.id, None, 3).next_cursor)


def test_sweeps_are_listed_newest_first_and_only_to_their_owner(lab: Any) -> None:
    mine = [submit(lab) for _ in range(3)]
    theirs = submit(lab, owner="own_2")
    with lab.database.read() as session:
        first = sweeps.page(session, "own_1", limit=2)
        rest = sweeps.page(session, "own_1", first.next_cursor, 2)
        assert [one.id for one in first.rows + rest.rows] == [one.id for one in mine[::-1]]
        assert (first.has_more, rest.has_more) == (True, False)
        assert len(sweeps.page(session, None).rows) == 4
        with pytest.raises(SweepNotFound):
            sweeps.get(session, theirs.id, owner="own_1")


def test_state_and_counts_follow_the_experiments(lab: Any) -> None:
    sweep = submit(lab)
    before = standing(lab, sweep)
    assert (before.state, before.experiments, before.total_steps) == (State.QUEUED, 8, 800)
    running = lab.claim().lease
    assert standing(lab, sweep).state is State.RUNNING
    lab.finish(running, work.Succeeded("diverged", {}))
    assert standing(lab, sweep).state is State.RUNNING
    for _ in range(6):
        finish(lab, work.Succeeded("budget", {}))
    finish(lab, work.Failed("trainer_error", "x"), step=30)
    after = standing(lab, sweep)
    assert (after.state, after.counts) == (State.FAILED, {State.SUCCEEDED: 7, State.FAILED: 1})
    assert (after.stop_reasons, after.steps) == ({"budget": 6, "diverged": 1}, 630)
    assert after.version > before.version


def test_what_is_left_is_told_from_what_has_been_trained(lab: Any) -> None:
    sweep = submit(lab)
    assert standing(lab, sweep).eta_seconds is None
    done = finish(lab, work.Succeeded("budget", {}))
    lab.change(done, claimed_at=1000.0, finished_at=1020.0)
    lab.claim(), lab.claim()
    # 700 steps at 5 a second, two at a time.
    assert standing(lab, sweep).eta_seconds == pytest.approx(70.0)


def test_pause_resume_cancel_and_retry_reach_all_of_them_and_no_other(lab: Any) -> None:
    sweep, other = submit(lab), submit(lab)
    lease = lab.claim().lease
    assert asking(lab, sweeps.pause, sweep, ME) == 8
    assert (standing(lab, sweep).asked, standing(lab, sweep).counts) == (1, {State.RUNNING: 1, State.PAUSED: 7})
    assert asking(lab, sweeps.resume, sweep, ME, Limits()) == 8
    assert lab.get(lease.job_id).desired is None
    assert asking(lab, sweeps.cancel, sweep, ME) == 8
    assert asking(lab, sweeps.cancel, sweep, ME) == 0
    assert asking(lab, sweeps.retry, sweep, ME, Limits()) == 0
    assert asking(lab, sweeps.retry, sweep, ME, Limits(), cancelled=True) == 7
    assert standing(lab, sweep).counts == {State.RUNNING: 1, State.QUEUED: 7}
    assert standing(lab, other).counts == {State.QUEUED: 8}
    assert "key_1" in {row[0].get("key_id") for row in lab_events(lab)}


def lab_events(lab: Any) -> list[Any]:
    with lab.database.read() as session:
        rows = session.execute(text("SELECT data FROM job_events")).all()
    return [(json.loads(row[0]) if isinstance(row[0], str) else row[0],) for row in rows]


def test_a_resumed_sweep_keeps_its_order_and_lets_others_come_between(lab: Any) -> None:
    sweep = submit(lab)
    asking(lab, sweeps.pause, sweep, ME)
    asking(lab, sweeps.resume, sweep, ME, Limits())
    for _ in range(3):
        lab.submit(owner="own_2")
    claimed = [lab.claim().lease.job_id for _ in range(6)]
    mine = [row.experiment.id for row in rows_of(lab, sweep)]
    assert [one for one in claimed if one in mine] == mine[:3]


def test_a_full_queue_refuses_all_of_it_or_nothing(lab: Any) -> None:
    with pytest.raises(QuotaExceeded):
        submit(lab, limits=Limits(queued_jobs=7))
    assert not lab.everything()["sweeps"]
    assert not lab.everything()["jobs"]
    sweep = submit(lab, limits=Limits(queued_jobs=8))
    asking(lab, sweeps.cancel, sweep, ME)
    for change, named in ((sweeps.retry, {"cancelled": True}),):
        with pytest.raises(QuotaExceeded):
            asking(lab, change, sweep, ME, Limits(queued_jobs=7), **named)
    assert standing(lab, sweep).counts == {State.CANCELLED: 8}


def test_a_repeated_request_makes_nothing_new(lab: Any) -> None:
    asked = spec()
    made = SweepSubmission.of(asked, expand(asked))
    first, replayed = asking(lab, sweeps.submit_once, KEY, asked, made, device="cpu")
    again, second = asking(lab, sweeps.submit_once, KEY, asked, made, device="cpu")
    assert (first.id, replayed, second) == (again.id, False, True)
    assert len(lab.everything()["jobs"]) == 8
    changed = spec(seeds=3)
    with pytest.raises(IdempotencyConflict):
        asking(lab, sweeps.submit_once, KEY, changed, SweepSubmission.of(changed, expand(changed)), device="cpu")
    asking(lab, sweeps.cancel, first, ME)
    asking(lab, sweeps.delete, first, ME)
    with pytest.raises(SweepNotFound):
        asking(lab, sweeps.submit_once, KEY, asked, made, device="cpu")


def test_a_sweep_grows_by_seeds_at_its_end(lab: Any) -> None:
    sweep = submit(lab)
    more = Extension(seeds=1)
    made = SweepSubmission.of(more, extended(load_sweep(sweep.spec), sweep.seeds, more))
    asking(lab, sweeps.extend, sweep, made, key_id="key_1", limits=Limits())
    rows = rows_of(lab, sweep)
    assert [row.seed for row in rows] == [0] * 4 + [1] * 4 + [2] * 4
    assert [row.experiment.spec["train"]["seed"] for row in rows] == [row.seed for row in rows]
    with pytest.raises(SweepChanged):
        asking(lab, sweeps.extend, sweep, made, key_id="key_1", limits=Limits())
    with lab.database.read() as session:
        assert sweeps.get(session, sweep.id).seeds == [0, 1, 2]


def test_a_sweep_is_deleted_with_its_experiments_once_all_have_ended(lab: Any) -> None:
    sweep, other = submit(lab), submit(lab)
    with pytest.raises(IllegalTransition):
        asking(lab, sweeps.delete, sweep, ME)
    asking(lab, sweeps.cancel, sweep, ME)
    asking(lab, sweeps.delete, sweep, ME)
    with lab.database.write() as session:
        with pytest.raises(SweepNotFound):
            sweeps.get(session, sweep.id)
        while purging.purge(session):
            pass
        assert orphans.find(session) == []
        assert session.execute(select(func.count()).select_from(core(Job))).scalar_one() == 8
    assert len(rows_of(lab, other)) == 8


def test_an_experiment_deleted_by_itself_counts_no_more(lab: Any) -> None:
    sweep = submit(lab)
    one = rows_of(lab, sweep)[0].experiment.id
    lab.ask(one, "cancel")
    with lab.database.write() as session:
        experiments.delete(session, one, By(None))
    assert standing(lab, sweep).experiments == 7
    assert len(rows_of(lab, sweep)) == 7


def test_measured_points_have_their_runs_by_seed(lab: Any) -> None:
    sweep = submit(lab)
    for number in range(8):
        claim = lab.claim()
        lab.append(claim.lease, MetricsBlock(first_step=1, count=2, values={"test/loss": [9.0, float(number)]}))
        lab.finish(claim.lease, work.Succeeded("budget", {"best": {"metric": "test/loss", "value": number}}))
    with lab.database.read() as session:
        found = sweeps.measured(session, sweep, ["test/loss"])
    assert [(point.number, point.values["optimizer.lr"], point.arm) for point in found] == [
        (0, 0.1, "bn"), (1, 0.1, "none"), (2, 0.2, "bn"), (3, 0.2, "none")
    ]  # fmt: skip
    assert [[run.series["test/loss"].last for run in point.runs] for point in found] == [
        [0.0, 4.0], [1.0, 5.0], [2.0, 6.0], [3.0, 7.0]
    ]  # fmt: skip
    assert [run.seed for run in found[0].runs] == [0, 1]
    assert not found[0].runs[0].has_target


def test_a_migration_down_keeps_the_experiments_and_up_again_has_no_sweep(lab: Any) -> None:
    submit(lab)
    url = lab.database.engine.url.render_as_string(hide_password=False)
    lab.database.dispose()
    migrate.downgrade(url, revision="0009")
    lab.database.dispose()
    migrate.upgrade(url)
    migrate.check(url)
    everything = lab.everything()
    assert (len(everything["experiments"]), everything["sweeps"]) == (8, [])


@pytest.mark.slow
def test_ten_thousand_experiments_are_seconds_of_work(lab: Any) -> None:
    draw = {"kind": "log_uniform", "low": 1e-6, "high": 0.1, "count": 100}
    asked = load_sweep({"template": {}, "axes": {"optimizer.lr": draw, "optimizer.weight_decay": draw}})
    began = time.process_time()
    sweep = submit(lab, asked)
    accepted = time.process_time()
    assert asking(lab, sweeps.cancel, sweep, ME) == 10_000
    cancelled = time.process_time()
    assert asking(lab, sweeps.retry, sweep, ME, Limits(), cancelled=True) == 10_000
    retried = time.process_time()
    assert standing(lab, sweep).counts == {State.QUEUED: 10_000}
    # Of this process; PostgreSQL's own come on top.
    assert accepted - began < 5.0
    assert cancelled - accepted < 3.0
    assert retried - cancelled < 3.0
    assert time.process_time() - retried < 0.5
