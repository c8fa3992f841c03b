"""Sessions and the clock, the same on both databases."""

import threading
import time
from typing import Any

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import DBAPIError, IntegrityError

from store.columns import unattached
from store.database import Database, create_engine_for, now
from store.jobs.states import State
from store.tables import Experiment

_INSERT = text("INSERT INTO watches (name, looked_at, trusted_from) VALUES ('one', 0, 0)")


def test_the_clock_is_utc_epoch_seconds(database: Database) -> None:
    before = time.time()
    with database.read() as session:
        found = now(session)
    # The clocks are one, and are read to the microsecond here and to the millisecond there.
    assert before - 0.01 < found < time.time() + 0.01


def test_a_reading_session_cannot_write(database: Database) -> None:
    statement = text("INSERT INTO bells (queue, jobs) VALUES ('cpu', 1)")
    with database.read() as session, pytest.raises(DBAPIError, match=r"read.?only"):
        session.execute(statement)


def test_no_setting_is_sent_between_transactions(sqlite_url: str) -> None:
    # SQLite would compile every statement of the connection anew, for any but how long it waits.
    database, sent = Database(sqlite_url, connections=1), []
    for sessions in (database.read, database.write):
        with sessions() as session:
            session.connection().connection.driver_connection.set_trace_callback(sent.append)
        with sessions() as session:
            session.execute(text("SELECT 1"))
    database.dispose()
    sent = [statement for statement in sent if "busy_timeout" not in statement]
    assert sent == ["ROLLBACK", "BEGIN", "SELECT 1", "ROLLBACK", "COMMIT", "BEGIN IMMEDIATE", "SELECT 1", "COMMIT"]


@pytest.mark.parametrize("held_seconds", [0.002, 0.2])
def test_a_writer_waits_for_its_turn_be_it_short_or_long(sqlite_url: str, held_seconds: float) -> None:
    database, other = Database(sqlite_url), Database(sqlite_url)
    with other.engine.connect() as writer:
        writer.execute(_INSERT)
        letting_go = threading.Timer(held_seconds, writer.commit)
        letting_go.start()
        with database.write() as session:
            assert session.execute(text("SELECT count(*) FROM watches")).scalar_one() == 1
            waits = session.connection().exec_driver_sql("PRAGMA busy_timeout").scalar_one()
        letting_go.join()
    assert waits == 30_000
    database.dispose()
    other.dispose()


def test_a_writing_session_rolls_back_whole_on_an_error(database: Database) -> None:
    with pytest.raises(IntegrityError):
        _insert_twice(database)
    with database.read() as session:
        assert session.execute(text("SELECT count(*) FROM watches")).scalar_one() == 0


def test_a_reading_session_sees_one_snapshot(database: Database) -> None:
    count = text("SELECT count(*) FROM watches")
    with database.read() as reader:
        assert reader.execute(count).scalar_one() == 0
        with database.write() as writer:
            writer.execute(_INSERT)
        assert reader.execute(count).scalar_one() == 0
    with database.read() as reader:
        assert reader.execute(count).scalar_one() == 1


def test_postgresql_ends_a_transaction_whose_process_has_frozen(postgresql_url: str) -> None:
    assert shown(create_engine_for(postgresql_url), "idle_in_transaction_session_timeout") == "30s"


def test_postgresql_ends_what_a_service_waits_for_and_lets_a_migration_wait(postgresql_url: str) -> None:
    service, migration = Database(postgresql_url).engine, create_engine_for(postgresql_url)
    limits = ("statement_timeout", "lock_timeout")
    assert [shown(service, name) for name in limits] == ["30s", "10s"]
    assert [shown(migration, name) for name in limits] == ["0", "0"]


def shown(engine: Engine, name: str) -> Any:
    with engine.connect() as connection:
        value = connection.exec_driver_sql(f"SHOW {name}").scalar_one()
    engine.dispose()
    return value


def test_a_connection_that_rests_is_not_silent_for_long(postgresql_url: str) -> None:
    engine = create_engine_for(postgresql_url)
    with engine.connect() as connection:
        driver: Any = connection.connection.driver_connection
        assert int(driver.info.get_parameters()["keepalives_idle"]) <= 60
    engine.dispose()


def test_a_new_connection_does_not_wait_for_who_writes(sqlite_url: str) -> None:
    with Database(sqlite_url).write() as writer:
        writer.execute(_INSERT)
        with Database(sqlite_url).read() as reader:
            assert reader.execute(text("SELECT count(*) FROM watches")).scalar_one() == 0


def test_a_row_that_no_session_knows_is_read_like_one_that_was_loaded() -> None:
    row = unattached(Experiment, {"id": "exp_1", "state": State.QUEUED, "queue": "cpu"}, ("pinned_device_model",))
    assert (row.id, row.pinned_device_model, row.waiting_for, row.device) == ("exp_1", None, "worker", "cpu")


def test_sqlite_runs_with_the_settings_of_the_design(sqlite_url: str) -> None:
    engine = create_engine_for(sqlite_url)
    with engine.connect() as connection:
        found = {
            pragma: connection.exec_driver_sql(f"PRAGMA {pragma}").scalar_one()
            for pragma in (
                "journal_mode",
                "foreign_keys",
                "auto_vacuum",
                "busy_timeout",
                "journal_size_limit",
                "synchronous",
            )
        }
    engine.dispose()
    assert found == {
        "journal_mode": "wal",
        "foreign_keys": 1,
        "auto_vacuum": 2,
        "busy_timeout": 30_000,
        "journal_size_limit": 64 << 20,
        "synchronous": 2,
    }


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:", "mysql://host/name"])
def test_other_databases_are_refused(url: str) -> None:
    with pytest.raises(ValueError, match="the database is"):
        create_engine_for(url)


def _insert_twice(database: Database) -> None:
    with database.write() as session:
        for _ in range(2):
            session.execute(_INSERT)
