"""Connections that come back, or are made, after everything was closed: nobody would ever close them."""

import threading
from typing import Any

import psycopg
import pytest
from sqlalchemy import text

from store.database import Database
from store.signals import signal_of


def is_open(connection: Any) -> bool:
    """Of a driver's connection: SQLite's has no other way to say so."""
    try:
        connection.cursor().close()
    except Exception:
        return False
    return True


@pytest.mark.parametrize("kind", ["read", "write"])
def test_a_connection_that_is_in_use_when_all_are_closed_is_closed_when_it_comes_back(
    database: Database, kind: str
) -> None:
    with (database.read if kind == "read" else database.write)() as session:
        session.execute(text("SELECT 1"))
        used = session.connection().connection.dbapi_connection
        database.dispose()
        session.execute(text("SELECT 1"))
        assert is_open(used)
    assert not is_open(used)
    # Whoever asks again gets another one, which is kept.
    later = []
    for _ in range(2):
        with database.read() as session:
            assert session.execute(text("SELECT 1")).scalar_one() == 1
            later.append(session.connection().connection.dbapi_connection)
    assert later[0] is later[1]


def test_a_listener_that_is_closed_makes_no_connection_any_more(database: Database) -> None:
    listener: Any = signal_of(database, "bnlab_jobs")
    assert listener.wait(60)
    listener.close()
    assert not listener.wait(60)
    assert listener._connection is None


def test_one_that_is_closed_while_it_connects_keeps_no_connection(
    postgresql_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = Database(postgresql_url)
    listener: Any = signal_of(database, "bnlab_jobs")
    connect, made = psycopg.connect, []

    def closed_meanwhile(*place: Any, **options: Any) -> Any:
        made.append(connect(*place, **options))
        closing = threading.Thread(target=listener.close)
        closing.start()
        closing.join()
        return made[0]

    monkeypatch.setattr(psycopg, "connect", closed_meanwhile)
    assert not listener.wait(60)
    assert [connection.closed for connection in made] == [True]
    database.dispose()
