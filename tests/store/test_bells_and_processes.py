"""What the relay reads: bells, queues, heartbeats."""

from typing import Any

from sqlalchemy import update

from store import experiments, processes
from store.jobs import bells
from store.jobs.bells import Hanging
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
    for device in ("cpu", "cuda", "cpu"):
        lab.submit(device=device)
    with lab.database.read() as session:
        hung = bells.hanging(session, limit=2)
    assert [(bell.queue, bell.jobs) for bell in hung] == [("cpu", 1), ("cuda", 1)]
    with lab.database.write() as session:
        bells.take_down(session, [bell.id for bell in hung])
    with lab.database.read() as session:
        (left,) = bells.hanging(session)
    assert left == Hanging(hung[-1].id + 1, "cpu", 1)


def test_many_that_are_queued_at_once_hang_one_bell(lab: Any) -> None:
    with lab.database.write() as session:
        experiments.submit_many(session, [lab.submission()] * 3, owner="own_1", device="cpu")
    with lab.database.read() as session:
        assert [(bell.queue, bell.jobs) for bell in bells.hanging(session)] == [("cpu", 3)]


def test_what_could_be_claimed_is_counted_by_queue_and_no_further_than_asked(lab: Any) -> None:
    for device in ("cpu", "cpu", "cpu", "cuda"):
        lab.submit(device=device)
    lab.claim()
    resting = lab.submit()
    lab.change(resting, not_before=lab.get(resting).created_at + 20)
    with lab.database.read() as session:
        assert [bells.claimable(session, queue, 10) for queue in ("cpu", "cuda", "tpu")] == [2, 1, 0]
        assert bells.claimable(session, "cpu", 1) == 1


def test_a_heartbeat_is_one_row_a_process(lab: Any) -> None:
    beat(lab, "prc_1", versions={"torch": "2.13.0"}, device_model="Model A")
    with lab.database.read() as session:
        first = processes.live(session, within_seconds=60)[0]
    beat(lab, "prc_1", broker_ok=True, job_id="exp_1")
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
