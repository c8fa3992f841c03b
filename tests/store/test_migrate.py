"""Migrations, and `python -m store` as people and containers run it."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import inspect
from sqlalchemy.exc import OperationalError

from store import keys, migrate
from store.database import Database, create_engine_for


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database without any table."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/new.db"
    return request.getfixturevalue("empty_postgresql_url")


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


def run_store(url: str, *arguments: str, key: str = "") -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "BNLAB_DATABASE_URL": url, "BNLAB_BOOTSTRAP_API_KEY": key}
    command = [sys.executable, "-m", "store", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)


def test_migrations_build_what_the_models_say(empty_url: str) -> None:
    migrate.upgrade(empty_url)
    migrate.check(empty_url)
    migrate.upgrade(empty_url)
    assert len(tables(empty_url)) == 12


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
    running = [subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) for _ in range(3)]
    errors = [process.communicate(timeout=60)[1] for process in running]
    assert [process.returncode for process in running] == [0, 0, 0], errors
    migrate.check(empty_url)
    with empty_database.read() as session:
        assert [key.name for key in keys.list_all(session)] == ["bootstrap"]
        assert keys.authenticate(session, "bnl_first") is not None


def test_keys_are_created_listed_and_revoked_from_the_command_line(sqlite_url: str) -> None:
    created = run_store(sqlite_url, "keys", "create", "--name", "laptop")
    secret = created.stdout.strip()
    assert created.returncode == 0
    assert secret.startswith("bnl_")
    (listed,) = json.loads(run_store(sqlite_url, "keys", "list", "--json").stdout)
    assert (listed["name"], listed["prefix"], listed["revoked_at"]) == ("laptop", secret[:12], None)
    assert secret not in run_store(sqlite_url, "keys", "list").stdout
    assert run_store(sqlite_url, "keys", "revoke", listed["id"]).returncode == 0
    database = Database(sqlite_url)
    with database.read() as session:
        assert keys.authenticate(session, secret) is None
    database.dispose()
    refused = run_store(sqlite_url, "keys", "revoke", "key_x")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "no such API key" in refused.stderr


def test_migrating_without_a_first_key_makes_none(sqlite_url: str) -> None:
    assert run_store(sqlite_url, "migrate").returncode == 0
    assert json.loads(run_store(sqlite_url, "keys", "list", "--json").stdout) == []


@pytest.mark.parametrize("name", ["store", "migrations"])
def test_importing_it_leaves_torch_out(name: str) -> None:
    code = f"import sys, {name}, store.results, store.blobs, store.migrate; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
