"""Sessions and the clock, the same on both databases."""

import time

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, IntegrityError

from store.database import Database, create_engine_for, now

_INSERT = text("INSERT INTO watches (name, looked_at, trusted_from) VALUES ('one', 0, 0)")


def test_the_clock_is_utc_epoch_seconds(database: Database) -> None:
    with database.read() as session:
        assert abs(now(session) - time.time()) < 2


def test_a_reading_session_cannot_write(database: Database) -> None:
    statement = text("INSERT INTO bells (queue, jobs) VALUES ('cpu', 1)")
    with database.read() as session, pytest.raises(DBAPIError, match=r"read.?only"):
        session.execute(statement)


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
    engine = create_engine_for(postgresql_url)
    with engine.connect() as connection:
        silence = connection.exec_driver_sql("SHOW idle_in_transaction_session_timeout").scalar_one()
    engine.dispose()
    assert silence == "30s"


def test_sqlite_runs_with_the_settings_of_the_design(sqlite_url: str) -> None:
    engine = create_engine_for(sqlite_url)
    with engine.connect() as connection:
        found = {
            pragma: connection.exec_driver_sql(f"PRAGMA {pragma}").scalar_one()
            for pragma in ("journal_mode", "foreign_keys", "auto_vacuum", "busy_timeout")
        }
    engine.dispose()
    assert found == {"journal_mode": "wal", "foreign_keys": 1, "auto_vacuum": 2, "busy_timeout": 30_000}


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:", "mysql://host/name"])
def test_other_databases_are_refused(url: str) -> None:
    with pytest.raises(ValueError, match="the database is"):
        create_engine_for(url)


def _insert_twice(database: Database) -> None:
    with database.write() as session:
        for _ in range(2):
            session.execute(_INSERT)
