"""What the relay reads: bells, queues, heartbeats."""

from typing import Any

from sqlalchemy import update

from store import outbox, processes
from store.database import now
from store.processes import Heartbeat
from store.tables import Process


def beat(lab: Any, process_id: str, **values: Any) -> None:
    heartbeat = Heartbeat(**{"id": process_id, "kind": "worker", "host": "h", "pid": 1, "device": "cpu", **values})
    with lab.database.write() as session:
        processes.beat(session, heartbeat)


def age(lab: Any, process_id: str, seconds: float) -> None:
    with lab.database.write() as session:
        older = update(Process).where(Process.id == process_id).values(heartbeat_at=Process.heartbeat_at - seconds)
        session.execute(older)


def test_bells_are_read_oldest_first_and_deleted_by_number(lab: Any) -> None:
    submitted = [lab.submit(), lab.submit(device="cuda"), lab.submit()]
    with lab.database.read() as session:
        bells = outbox.pending(session, limit=2)
    assert [(bell.experiment_id, bell.device) for bell in bells] == [(submitted[0], "cpu"), (submitted[1], "cuda")]
    with lab.database.write() as session:
        outbox.delete(session, [bell.id for bell in bells])
    with lab.database.read() as session:
        assert [bell.experiment_id for bell in outbox.pending(session)] == [submitted[2]]


def test_queues_are_counted_by_device(lab: Any) -> None:
    for device in ("cpu", "cpu", "cuda"):
        lab.submit(device=device)
    lab.claim()
    with lab.database.read() as session:
        assert outbox.queued_counts(session) == {"cpu": 1, "cuda": 1}


def test_the_last_claim_of_a_queue_is_known(lab: Any) -> None:
    lab.submit()
    with lab.database.read() as session:
        assert outbox.last_claim_at(session, "cpu") is None
    lab.claim()
    with lab.database.read() as session:
        assert 0 <= now(session) - outbox.last_claim_at(session, "cpu") < 5
        assert outbox.last_claim_at(session, "cuda") is None


def test_a_heartbeat_is_one_row_a_process(lab: Any) -> None:
    beat(lab, "prc_1", versions={"torch": "2.13.0"}, device_model="Model A")
    with lab.database.read() as session:
        first = processes.live(session, within_seconds=60)[0]
    beat(lab, "prc_1", broker_ok=True, experiment_id="exp_1")
    with lab.database.read() as session:
        (again,) = processes.live(session, within_seconds=60)
    assert (first.versions, first.device_model, first.broker_ok) == ({"torch": "2.13.0"}, "Model A", None)
    assert (again.broker_ok, again.job_id, again.started_at) == (True, "exp_1", first.started_at)
    assert again.heartbeat_at >= first.heartbeat_at


def test_a_process_lives_while_its_heartbeat_is_young(lab: Any) -> None:
    beat(lab, "prc_1")
    beat(lab, "prc_2", kind="relay", device=None)
    beat(lab, "prc_3", device="cuda")
    age(lab, "prc_3", 100)
    with lab.database.read() as session:
        assert [one.id for one in processes.live(session, within_seconds=60)] == ["prc_1", "prc_2"]
        assert [one.id for one in processes.live(session, within_seconds=60, kind="relay")] == ["prc_2"]
        assert processes.device_is_live(session, "cpu", within_seconds=60)
        assert not processes.device_is_live(session, "cuda", within_seconds=60)
        assert processes.device_is_live(session, "cuda", within_seconds=200)


def test_a_process_leaves_by_itself_or_is_forgotten(lab: Any) -> None:
    for process_id in ("prc_1", "prc_2", "prc_3"):
        beat(lab, process_id)
    age(lab, "prc_2", 7200)
    with lab.database.write() as session:
        processes.leave(session, "prc_1")
        assert processes.purge(session, older_than_seconds=3600) == 1
        assert [one.id for one in processes.live(session, within_seconds=60)] == ["prc_3"]
