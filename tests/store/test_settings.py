"""Processes whose settings are wrong say which, and end."""

import os
import subprocess
import sys

import pytest

_GOOD = {"BNLAB_DATABASE_URL": "sqlite:///bnlab.db", "BNLAB_REDIS_URL": "redis://localhost:1/0"}


@pytest.mark.parametrize("command", ["api", "worker", "worker.relay", "store owners list"])
def test_a_wrong_setting_is_named_and_its_value_is_not(command: str) -> None:
    module, *arguments = command.split()
    wrong = {"BNLAB_DATABASE_URL": "mysql://me:hunter2@host/name"}
    ended = _run(module, arguments, {**_GOOD, **wrong})
    said = "BNLAB_DATABASE_URL: the database is sqlite:///<file> or postgresql://<user>:<password>@<host>/<name>\n"
    assert (ended.returncode, ended.stdout, ended.stderr) == (2, "", said)


def test_a_missing_setting_is_named() -> None:
    ended = _run("worker", [], {"BNLAB_REDIS_URL": "redis://localhost:1/0", "BNLAB_LEASE_SECONDS": "soon"})
    first, second = ended.stderr.splitlines()
    assert (ended.returncode, first) == (2, "BNLAB_DATABASE_URL: Field required")
    assert second.startswith("BNLAB_LEASE_SECONDS: ")
    assert "soon" not in second


def _run(module: str, arguments: list[str], settings: dict[str, str]) -> "subprocess.CompletedProcess[str]":
    others = {name: value for name, value in os.environ.items() if not name.startswith("BNLAB_")}
    command = [sys.executable, "-P", "-m", module, *arguments]
    return subprocess.run(command, env=others | settings, capture_output=True, text=True, timeout=180, check=False)
