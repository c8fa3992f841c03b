"""What holds for jobs of every kind: claimed with what is asked, stopped, lost, tried again, ended with a result."""

from typing import Any

import pytest
from sqlalchemy import insert, select

from store import files, purging, queueing, work
from store.columns import core
from store.errors import IllegalTransition, QuotaExceeded, StaleLease
from store.jobs import leases, reaper, wishes
from store.jobs.states import State
from store.queueing import Limits, Newcomer, Submitter
from store.tables import Dataset, Evaluation, Job
from tests.store.conftest import ANYBODY, LEASE_SECONDS, Lab

SPEC = {"kind": "any", "resources": {"device": "auto", "threads": 1}}
_ROWS: dict[str, tuple[Any, dict[str, Any]]] = {
    "dataset": (
        Dataset,
        {"name": "n", "file_name": "n", "fingerprint": "f", "source_size": 3, "source_sha256": "0" * 64},
    ),
    "evaluation": (Evaluation, {"experiment_id": "exp_1", "checkpoint_id": "ckp_1"}),
}
RESULT = {"accuracy": 0.5, "loss": float("nan")}


@pytest.fixture(params=["dataset", "evaluation"])
def kind(request: pytest.FixtureRequest) -> Any:
    return request.param


def enter(lab: Lab, kind: Any, limits: Limits | None = None, **newcomer: Any) -> str:
    """A job of the kind, as its submission stores it."""
    with lab.database.write() as session:
        newcomers = [Newcomer(newcomer.pop("max_restarts", 1), **newcomer)]
        (job,) = queueing.enter(
            session.connection(), kind, newcomers, Submitter("own_1", "cpu", "key_1"), limits or Limits()
        )
        table, values = _ROWS[kind]
        place = {"id": job["id"], "submitted_by": job["owner"], "submitted_at": job["created_at"], "spec": SPEC}
        session.execute(insert(core(table)).values(**place, **values))
    return str(job["id"])


def conclude(lab: Lab, lease: leases.Lease, kind: Any) -> Any:
    if kind == "dataset":
        lab.file(lease, "dataset.json", b"{}\n")
    return finish(lab, lease, work.Concluded(RESULT))


def job(lab: Lab, job_id: str) -> Any:
    with lab.database.read() as session:
        return session.execute(select(core(Job)).where(core(Job).c.id == job_id)).one()


def finish(lab: Lab, lease: leases.Lease, outcome: work.Outcome) -> Any:
    with lab.database.write() as session:
        work.finish(session, lease, outcome)
    return job(lab, lease.job_id)


def test_it_is_claimed_with_what_is_asked_and_ends_with_its_result(lab, kind):
    job_id = enter(lab, kind)
    claim = lab.claim()
    assert (claim.lease.job_id, claim.kind, claim.spec, claim.restore) == (job_id, kind, SPEC, None)
    assert conclude(lab, claim.lease, kind).state is State.SUCCEEDED
    column = {"dataset": core(Dataset).c.report, "evaluation": core(Evaluation).c.result}[kind]
    with lab.database.read() as session:
        assert session.scalars(select(column)).all() == [{"accuracy": 0.5, "loss": "NaN"}]
    with pytest.raises(StaleLease), lab.database.write() as session:
        work.finish(session, claim.lease, work.Concluded({}))


@pytest.mark.parametrize(
    ("wish", "outcome", "state"),
    [("cancel", work.Cancelled(), State.CANCELLED), ("pause", work.Paused(), State.PAUSED)],
)
def test_a_wish_reaches_whoever_works_on_it_and_a_second_attempt_can_follow(lab, kind, wish, outcome, state):
    job_id = enter(lab, kind)
    first = lab.claim().lease
    with lab.database.write() as session:
        wishes.ask(session, job_id, wish, ANYBODY)
    assert lab.append(first) == leases.Stop(wish)
    assert finish(lab, first, outcome).state is state
    with lab.database.write() as session:
        (queueing.resume if wish == "pause" else queueing.retry)(session, job_id, ANYBODY, Limits())
    second = lab.claim()
    assert (second.lease.attempt, second.spec, second.kind) == (2, SPEC, kind)


def test_a_lost_one_is_queued_again_until_its_restarts_are_used_up(lab, kind):
    job_id = enter(lab, kind, max_restarts=1)
    states = []
    for _ in range(2):
        lease = lab.claim().lease
        lab.jump(LEASE_SECONDS + 1)
        with lab.database.write() as session:
            (reaped,) = reaper.reap(session)
        states.append(reaped.state)
        with pytest.raises(StaleLease):
            lab.append(lease)
    assert states == [State.QUEUED, State.FAILED]
    assert job(lab, job_id).failure_code == "worker_lost"


def test_its_deadline_ends_it_and_a_full_queue_refuses_it(lab, kind):
    job_id = enter(lab, kind, deadline_seconds=100.0)
    lease = lab.claim().lease
    finish(lab, lease, work.Released())
    lab.jump(101)
    with lab.database.write() as session:
        assert [one.state for one in reaper.end_overdue(session)] == [State.FAILED]
    assert job(lab, job_id).failure_code == "deadline"
    enter(lab, kind, Limits(queued_jobs=1))
    with pytest.raises(QuotaExceeded):
        enter(lab, kind, Limits(queued_jobs=1))
    with pytest.raises(QuotaExceeded), lab.database.write() as session:
        queueing.retry(session, job_id, ANYBODY, Limits(queued_jobs=1))


def test_the_kinds_of_one_owner_stand_in_one_queue_in_the_order_they_came(lab):
    ids = [enter(lab, "dataset"), lab.submit(), enter(lab, "evaluation")]
    assert [lab.claim().lease.job_id for _ in ids] == ids


def test_one_that_is_deleted_is_purged_with_its_row(lab, kind):
    job_id = enter(lab, kind)
    with pytest.raises(IllegalTransition), lab.database.write() as session:
        wishes.delete(session, job_id, ANYBODY)
    conclude(lab, lab.claim().lease, kind)
    with lab.database.write() as session:
        wishes.delete(session, job_id, ANYBODY)
        files.drop_of_jobs(session, [job_id])
    for _ in range(20):
        with lab.database.write() as session:
            purging.purge(session)
    left = lab.everything(but=("bells", "alembic_version", "owners", "watches"))
    assert {name: rows for name, rows in left.items() if rows} == {}
