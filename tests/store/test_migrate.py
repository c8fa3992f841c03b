"""Migrations, and `python -m store` as people and containers run it."""

import json
import os
import secrets
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import inspect, make_url
from sqlalchemy.exc import OperationalError

from store import keys, migrate, processes
from store.database import Database, create_engine_for
from store.tables import Table

RunStore = Callable[..., tuple[int, str, str]]


@pytest.fixture
def empty_database(empty_url: str) -> Iterator[Database]:
    database = Database(empty_url)
    yield database
    database.dispose()


def tables(url: str) -> set[str]:
    engine = create_engine_for(url)
    found = set(inspect(engine).get_table_names())
    engine.dispose()
    return found


def test_migrations_build_what_the_models_say(empty_url: str) -> None:
    migrate.upgrade(empty_url)
    migrate.check(empty_url)
    migrate.upgrade(empty_url)
    assert tables(empty_url) == {*Table.metadata.tables, "alembic_version"}


def test_going_down_leaves_nothing_and_up_again_works(empty_url: str) -> None:
    migrate.upgrade(empty_url)
    migrate.downgrade(empty_url)
    assert tables(empty_url) == {"alembic_version"}
    migrate.upgrade(empty_url)
    migrate.check(empty_url)


def test_a_database_that_never_starts_is_an_error_in_the_end(tmp_path: Path) -> None:
    with pytest.raises(OperationalError):
        migrate.upgrade(f"sqlite:///{tmp_path}/missing/new.db", wait_seconds=0.2)


def test_migrations_at_the_same_time_do_the_work_once(empty_url: str, empty_database: Database) -> None:
    environment = {**os.environ, "BNLAB_DATABASE_URL": empty_url, "BNLAB_BOOTSTRAP_API_KEY": "bnl_first"}
    command = [sys.executable, "-m", "store", "migrate"]
    running = [subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    errors = [process.communicate(timeout=120)[1] for process in running]
    assert [process.returncode for process in running] == [0, 0], errors
    migrate.check(empty_url)
    with empty_database.read() as session:
        assert [key.name for key in keys.list_all(session)] == ["bootstrap"]
        assert keys.authenticate(session, "bnl_first") is not None


def test_keys_are_created_listed_and_revoked_from_the_command_line(sqlite_url: str, run_store: RunStore) -> None:
    code, output, _ = run_store("keys", "create", "--name", "laptop")
    secret = output.strip()
    assert code == 0
    assert secret.startswith("bnl_")
    (listed,) = json.loads(run_store("keys", "list", "--json")[1])
    assert (listed["name"], listed["prefix"], listed["revoked_at"]) == ("laptop", secret[:12], None)
    # The least that a key can do, unless more is said.
    assert listed["scopes"] == "read"
    assert secret not in run_store("keys", "list")[1]
    assert run_store("keys", "revoke", listed["id"])[0] == 0
    database = Database(sqlite_url)
    with database.read() as session:
        assert keys.authenticate(session, secret) is None
    database.dispose()
    code, output, errors = run_store("keys", "revoke", "key_x")
    assert (code, output) == (1, "")
    assert "no such API key" in errors


def test_migrating_without_a_first_key_makes_none(run_store: RunStore) -> None:
    assert run_store("migrate")[0] == 0
    assert json.loads(run_store("keys", "list", "--json")[1]) == []


def test_a_process_lives_while_its_heartbeat_is_young(sqlite_url: str, run_store: RunStore) -> None:
    question = ("heartbeat", "--kind", "relay", "--host", "here")
    assert run_store(*question)[0] == 1
    database = Database(sqlite_url)
    with database.write() as session:
        processes.beat(session, processes.Heartbeat(id="prc_1", kind="relay", host="here", pid=1))
    database.dispose()
    assert run_store(*question)[0] == 0
    assert run_store(*question, "--within-seconds", "0")[0] == 1


def test_a_database_that_is_not_unicode_is_refused_in_a_line(empty_postgresql_url: str) -> None:
    name = f"ascii_{secrets.token_hex(4)}"
    with psycopg.connect(empty_postgresql_url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE template0 ENCODING 'SQL_ASCII' LOCALE 'C'")
    url = make_url(empty_postgresql_url).set(database=name).render_as_string(hide_password=False)
    command = [sys.executable, "-m", "store", "migrate"]
    ended = subprocess.run(command, env={**os.environ, "BNLAB_DATABASE_URL": url}, capture_output=True, text=True)
    assert ended.returncode == 1
    assert ended.stderr == "The database's encoding is SQL_ASCII; make one with ENCODING 'UTF8'.\n"


@pytest.mark.parametrize(
    "command", [["keys", "list"], ["keys", "create", "--name", "a"], ["owners", "list"]], ids=" ".join
)
def test_a_database_that_is_not_migrated_is_said_so_in_a_line(run_store, monkeypatch, empty_url, command) -> None:
    monkeypatch.setenv("BNLAB_DATABASE_URL", empty_url)
    assert run_store(*command) == (
        1, "", "The database lacks what this version needs: migrate it with `python -m store migrate`.\n",
    )  # fmt: skip
