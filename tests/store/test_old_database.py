"""A database of the first revision with everything in it: upgraded and served, and brought back as it was."""

import hashlib
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from sqlalchemy import MetaData, insert, select

from bncore.spec import load_spec
from store import checkpoints as stored_checkpoints
from store import experiments, idempotency, keys, migrate, owners, processes, results, work
from store.database import Database, create_engine_for
from store.errors import StaleLease
from store.experiments import Filters
from store.idempotency import Scope
from store.jobs import bells, eventlog, leases, reaper, wishes
from store.jobs.leases import Go, Lease, Terms, Worker
from store.jobs.reaper import Reaped
from store.jobs.states import State
from store.jobs.wishes import By
from store.results.segments import segment_values

NOW = time.time()
AGO = NOW - 3600
SPEC = load_spec({"name": "old", "tags": {"paper": "a", "arm": "1"}}).model_dump(mode="json")
WEIGHTS, STATE = b"w" * 1000, b"s" * 500
WORKER = Worker("prc_new", "cpu", "Model A", "2.13.0")
STATES = {
    "queued": {},
    "waits": {"pinned_device_kind": "cpu", "pinned_device_model": "Model A", "pinned_torch_version": "2.13.0",
              "attempt": 1, "first_claimed_at": AGO, "claimed_at": AGO, "waiting_for": "worker with Model A"},
    "cuda": {"device": "cuda"},
    "running": {"attempt": 2, "restarts": 1, "lease_token": "t1", "lease_expires_at": NOW + 3000,
                "process_id": "prc_old", "phase": "training", "first_claimed_at": AGO, "claimed_at": AGO,
                "started_at": AGO, "step": 7},
    "lost": {"attempt": 1, "lease_token": "t2", "lease_expires_at": NOW - 3000, "process_id": "prc_gone",
             "first_claimed_at": AGO, "claimed_at": AGO},
    "paused": {"attempt": 1, "paused_at": AGO, "first_claimed_at": AGO - 50, "claimed_at": AGO - 50},
    "succeeded": {"attempt": 1, "stop_reason": "budget", "summary": {"steps": 3, "test_loss": "NaN"}, "step": 3,
                  "first_claimed_at": AGO, "claimed_at": AGO, "finished_at": AGO + 9},
    "failed": {"attempt": 1, "failure_code": "trainer_error", "failure_message": "Broke.", "step": 3,
               "first_claimed_at": AGO, "claimed_at": AGO, "finished_at": AGO + 9, "pinned_device_model": "Model A",
               "pinned_torch_version": "2.13.0"},
    "cancelled": {"finished_at": AGO},
    "deleted": {"finished_at": AGO, "deleted_at": AGO + 1},
}  # fmt: skip
IN_STATE = {"waits": "queued", "cuda": "queued", "lost": "running", "deleted": "succeeded"}


def fill(url: str) -> None:
    """Every table of the first revision, by nothing but its own columns."""
    engine, tables = create_engine_for(url), MetaData()
    tables.reflect(engine)
    with engine.begin() as connection:

        def add(table: str, *rows: dict[str, Any]) -> None:
            for row in rows:
                connection.execute(insert(tables.tables[table]).values(**row))

        for number, name in enumerate(STATES):
            add("experiments", experiment(name, number))
            add(
                "experiment_tags",
                *({"experiment_id": id_of(name), "key": k, "value": v} for k, v in SPEC["tags"].items()),
            )
            add("experiment_events", *events(name, number))
        add(
            "outbox",
            *({"experiment_id": id_of(name), "device": "cpu", "created_at": AGO} for name in ("queued", "waits")),
        )
        add("outbox", {"experiment_id": id_of("cuda"), "device": "cuda", "created_at": AGO})
        for name in ("failed", "succeeded"):
            packed = segment_values(np.array([1, 2, 3]), np.array([3.0, np.inf, 1.0]))
            place = {"experiment_id": id_of(name), "key": "train/loss"}
            add("metric_segments", {**place, "attempt": 1, **packed})
            add("metric_series", place | {key: packed[key] for key in packed if key not in ("steps", "points")})
        checkpoints(add)
        for number in (1, 2):
            secret = hashlib.sha256(f"bnl_secret{number}".encode()).hexdigest()
            shown = {"id": f"key_{number}", "name": f"key {number}", "prefix": "bnl_secret", "secret_sha256": secret}
            add("api_keys", {**shown, "created_at": AGO + number, "revoked_at": None if number == 1 else NOW})
            request = {"method": "POST", "path": "/v1/experiments", "key": "same", "fingerprint": "f"}
            which = id_of("queued" if number == 1 else "waits")
            times = {"created_at": AGO + number, "expires_at": NOW + 3600}
            add("idempotency_keys", {"owner": f"key_{number}", **request, "experiment_id": which, **times})
        lives = {"kind": "worker", "host": "h", "pid": 7, "device": "cpu", "versions": {"torch": "2.13.0"}}
        working = {"experiment_id": id_of("running"), "started_at": AGO, "heartbeat_at": NOW}
        add("processes", {"id": "prc_old", **lives, **working})
    engine.dispose()


def id_of(name: str) -> str:
    return f"exp_{name}"


def experiment(name: str, number: int) -> dict[str, Any]:
    state = IN_STATE.get(name, name)
    return {
        "id": id_of(name), "owner": f"key_{number % 2 + 1}", "state": state, "device": "cpu", "name": "old",
        "tags": SPEC["tags"], "spec": SPEC, "spec_version": 1, "fingerprint": "f", "version": 4, "priority": 0,
        "attempt": 0, "restarts": 0, "max_restarts": 3, "step": 0, "total_steps": 2000, "last_event": 2,
        "created_at": AGO + number, "queued_at": AGO + number, "paused_seconds": 0.0,
        "waiting_for": "worker" if state == "queued" else None, **STATES[name],
    }  # fmt: skip


def events(name: str, number: int) -> Iterator[dict[str, Any]]:
    for line, kind in enumerate(("submitted", "seen"), start=1):
        said = {"kind": kind, "message": f"{name} was {kind}.", "data": {"n": line}, "at": AGO + number + line}
        yield {"experiment_id": id_of(name), "number": line, "attempt": 0, **said}


def checkpoints(add: Any) -> None:
    for name in ("failed", "succeeded", "deleted"):
        sums = {"sha256": hashlib.sha256(WEIGHTS).hexdigest(), "state_sha256": hashlib.sha256(STATE).hexdigest()}
        sizes = {"size": len(WEIGHTS), "state_size": len(STATE)}
        row = {"id": f"ckp_{name}", "experiment_id": id_of(name), "attempt": 1, "kind": "last", "step": 3, "epoch": 0}
        times = {"created_at": AGO, "whole_at": AGO, "dropped_at": AGO if name == "deleted" else None}
        add("checkpoints", {**row, "metrics": {"test/loss": "NaN"}, **sums, **sizes, **times})
        for file, content in (("weights", WEIGHTS), ("state", STATE)):
            add("checkpoint_chunks", {"checkpoint_id": f"ckp_{name}", "file": file, "seq": 0, "data": content})


def everything(url: str) -> dict[str, list[dict[str, Any]]]:
    engine, tables = create_engine_for(url), MetaData()
    tables.reflect(engine)
    with engine.connect() as connection:
        found = {
            name: sorted((dict(row._mapping) for row in connection.execute(select(table))), key=repr)
            for name, table in tables.tables.items()
        }
    engine.dispose()
    return found


@pytest.fixture
def old_url(empty_url: str) -> str:
    migrate.upgrade(empty_url, revision="0001")
    fill(empty_url)
    return empty_url


@pytest.fixture
def database(old_url: str) -> Iterator[Database]:
    """Overrides the empty one: the old database, upgraded."""
    migrate.upgrade(old_url)
    database = Database(old_url)
    yield database
    database.dispose()


def test_everything_is_found_after_the_upgrade(database: Database) -> None:
    with database.read() as session:
        rows = {row.id: row for row in experiments.page(session, Filters()).rows}
        assert list(rows) == [id_of(name) for name in reversed(STATES) if name != "deleted"]
        for number, name in enumerate(STATES):
            if name == "deleted":
                continue
            row, was = rows[id_of(name)], experiment(name, number)
            changed = {"owner": "own_default"}
            for column, value in {**was, **changed}.items():
                assert getattr(row, column) == value, (name, column)
            assert row.key_id == was["owner"]
            lines = eventlog.page(session, row.id)
            assert [(line.number, line.kind, line.data) for line in lines] == [
                (1, "submitted", {"n": 1}),
                (2, "seen", {"n": 2}),
            ]
        for filters in ({"owner": "own_default"}, {"tags": {"paper": "a", "arm": None}}, {"name": "old"}):
            assert len(experiments.page(session, Filters(**filters)).rows) == len(STATES) - 1
        assert experiments.ids(session, Filters(states=(State.FAILED,)), 9) == [id_of("failed")]
        points = results.series(session, id_of("failed"))["train/loss"]
        assert (points.steps.tolist(), points.values.tolist()) == ([1, 2, 3], [3.0, np.inf, 1.0])
        assert results.last_values(session, id_of("succeeded")) == {"train/loss": 1.0}
        assert [(bell.queue, bell.jobs) for bell in bells.hanging(session)] in (
            [("cpu", 2), ("cuda", 1)],
            [("cuda", 1), ("cpu", 2)],
        )
        (process,) = processes.live(session, within_seconds=24 * 3600)
        assert (process.id, process.job_id, process.trouble) == ("prc_old", id_of("running"), None)


def test_keys_owners_and_requests_after_the_upgrade(database: Database) -> None:
    with database.write() as session:
        found = keys.authenticate(session, "bnl_secret1")
        assert found is not None
        assert (found.id, found.owner, found.scopes, found.expires_at) == (
            "key_1", owners.DEFAULT_OWNER, frozenset(keys.KeyScope), None,
        )  # fmt: skip
        assert keys.authenticate(session, "bnl_secret2") is None
        assert owners.find(session, owners.DEFAULT_OWNER).stored_bytes == 3 * (len(WEIGHTS) + len(STATE))
        # Both keys had sent the same word; the newer request stands.
        scope = Scope(owners.DEFAULT_OWNER, "POST", "/v1/experiments", "same")
        assert idempotency.reserve(session, scope, "f") == id_of("waits")


def test_checkpoints_are_whole_after_the_upgrade(database: Database) -> None:
    for file, content in (("weights", WEIGHTS), ("state", STATE)):
        assert b"".join(stored_checkpoints.read(database, "ckp_failed", file)) == content


def test_work_goes_on_after_the_upgrade(database: Database) -> None:
    def take() -> work.Claim | None:
        with database.write() as session:
            return work.take(session, WORKER, Terms(60.0), leases.new_token())

    claimed = [take(), take()]
    assert [(claim.lease.job_id, claim.lease.attempt) for claim in claimed if claim] == [
        (id_of("queued"), 1),
        (id_of("waits"), 2),
    ]
    assert take() is None
    old = Lease(id_of("running"), 2, "t1")
    with database.write() as session:
        assert leases.renew(session, old) == Go()
        assert reaper.reap(session) == [Reaped(id_of("lost"), 1, State.QUEUED)]
        with pytest.raises(StaleLease):
            leases.renew(session, Lease(id_of("lost"), 1, "t2"))
        work.finish(session, old, work.Succeeded("budget", {}))
        wishes.resume(session, id_of("paused"), By(owners.DEFAULT_OWNER))
        wishes.retry(session, id_of("failed"), By(owners.DEFAULT_OWNER))
    again = [take(), take(), take()]
    assert {(claim.lease.job_id, claim.restore) for claim in again if claim} == {
        (id_of("lost"), None),
        (id_of("paused"), None),
        (id_of("failed"), "ckp_failed"),
    }


def test_going_down_again_leaves_what_was_there(old_url: str) -> None:
    before = everything(old_url)
    migrate.upgrade(old_url)
    migrate.downgrade(old_url, revision="0001")
    after = everything(old_url)
    assert after.keys() == before.keys()
    # Bells are hung anew, and of two requests that one owner cannot have made both the newer is left.
    for found in (before, after):
        for row in found["outbox"]:
            del row["id"], row["created_at"]
        found["outbox"].sort(key=repr)
    before["idempotency_keys"] = [row for row in before["idempotency_keys"] if row["experiment_id"] == id_of("waits")]
    for table in before:
        assert after[table] == before[table], table
