"""Experiments whose worker vanished."""

from typing import Any

import pytest

from store.errors import StaleLease
from store.jobs import leases
from store.jobs.leases import Lease
from store.jobs.reaper import Reaped, reap
from store.jobs.states import State


def reaped(lab: Any) -> list[Reaped]:
    with lab.database.write() as session:
        return reap(session)


def lost(lab: Any, **parts: Any) -> Lease:
    """The lease of a worker that has not renewed it in time."""
    lease = lab.running(**parts)
    lab.change(lease.job_id, lease_expires_at=lab.get(lease.job_id).lease_expires_at - 61)
    return lease


def test_only_an_expired_lease_is_reaped(lab: Any) -> None:
    lab.running()
    expired = lost(lab)
    assert reaped(lab) == [Reaped(expired.job_id, 1, State.QUEUED)]
    assert reaped(lab) == []


def test_a_reaped_experiment_is_queued_with_a_bell_and_counts_a_restart(lab: Any) -> None:
    lease = lost(lab)
    reaped(lab)
    row = lab.get(lease.job_id)
    assert (row.state, row.restarts, row.lease_token, row.process_id) == (State.QUEUED, 1, None, None)
    assert len(lab.everything()["bells"]) == 2
    with lab.database.write() as session, pytest.raises(StaleLease):
        leases.renew(session, lease)


def test_a_lease_renewed_after_its_expiry_is_not_reaped(lab: Any) -> None:
    lease = lost(lab)
    with lab.database.write() as session:
        leases.renew(session, lease)
    assert reaped(lab) == []


def test_after_enough_restarts_a_lost_experiment_fails(lab: Any) -> None:
    lease = lost(lab, max_restarts=0)
    assert reaped(lab) == [Reaped(lease.job_id, 1, State.FAILED)]
    row = lab.get(lease.job_id)
    assert (row.failure_code, row.finished_at is not None) == ("worker_lost", True)


@pytest.mark.parametrize(("desired", "state"), [("cancel", State.CANCELLED), ("pause", State.PAUSED)])
def test_a_lost_experiment_goes_where_its_owner_wanted(lab: Any, desired: str, state: State) -> None:
    lease = lost(lab)
    lab.change(lease.job_id, desired=desired)
    assert reaped(lab) == [Reaped(lease.job_id, 1, state)]
    assert len(lab.everything()["bells"]) == 1
