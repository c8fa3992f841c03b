"""Many rows at once are what the same rows one by one are, on both databases."""

from typing import Any

import pytest
from sqlalchemy import func, select, text

from bncore.spec import load_spec
from store import bulk, experiments
from store.columns import core
from store.database import Database
from store.experiments import Submission
from store.tables import Experiment, ExperimentTag, Job, JobEvent

# What a text of JSON may spoil: quotes, backslashes, other planes, what looks like NULL, numbers of 17 digits.
WORDS = ('"', "\\", "\\N", "null", "ä€😀\u2028", "{}", "'", " ", "%(id)s", ":of_key")
COUNT = 120
TEXTS = text("SELECT CAST(spec AS TEXT) FROM experiments ORDER BY id")
OWN = {"id", "job_id", "experiment_id", "created_at", "queued_at", "submitted_at", "sequence", "at", "turn"}


def submissions() -> list[Submission]:
    return [
        Submission.of(
            load_spec(
                {
                    "name": WORDS[number % len(WORDS)].strip() or None,
                    "tags": {"word": WORDS[number % len(WORDS)].strip() or "-", "number": str(number)},
                    "train": {"seed": number},
                    "optimizer": {"lr": 0.1 / (number + 3)},
                    "deadline_seconds": None if number % 2 else 10.0 / (number + 3),
                }
            )
        )
        for number in range(COUNT)
    ]


def stored(database: Database) -> dict[str, list[dict[str, Any]]]:
    """All rows, without what differs from call to call."""
    found = {}
    for table, order in ((Job, "turn"), (Experiment, "id"), (JobEvent, "sequence"), (ExperimentTag, "submitted_at")):
        with database.read() as session:
            rows = session.execute(select(core(table)).order_by(text(order))).mappings().all()
        kept = [{key: value for key, value in row.items() if key not in OWN} for row in rows]
        found[table.__tablename__] = sorted(kept, key=str) if table is ExperimentTag else kept
    return found


def submit(database: Database) -> None:
    with database.write() as session:
        experiments.submit_many(session, submissions(), owner="own_1", device="cpu", key_id="key_1")


def test_many_rows_at_once_are_the_rows_one_by_one(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    submit(database)
    together = stored(database)
    with database.read() as session:
        times = session.execute(select(func.min(JobEvent.at), func.min(Job.created_at)).join(Job)).one()
        texts = session.scalars(TEXTS).all()
    assert times[0] >= times[1]
    with database.write() as session:
        session.execute(text("DELETE FROM jobs"))
    monkeypatch.setattr(bulk, "_FEW", COUNT)
    submit(database)
    assert stored(database) == together
    assert len(together["experiments"]) == len(together["job_events"]) == COUNT
    with database.read() as session:
        again = session.scalars(TEXTS).all()
    assert again == texts
