"""Several processes that serve one port."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from tests.api.trouble import ApiProcess, api_process, until

WRONG = {"Authorization": "Bearer wrong"}


def siblings(database_url: str, **environment: str) -> AbstractContextManager[ApiProcess]:
    return api_process(database_url, BNLAB_API_PROCESSES="2", **environment)


@contextmanager
def standing_still(pid: int) -> Iterator[None]:
    os.kill(pid, signal.SIGSTOP)
    until(lambda: psutil.Process(pid).status() == psutil.STATUS_STOPPED)
    yield
    os.kill(pid, signal.SIGCONT)


def all_gone(pids: list[int]) -> bool:
    return all(is_gone(pid) for pid in pids)


def is_gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_each_serves_while_the_other_stands_still_and_both_end_when_asked(sqlite_url: str) -> None:
    with siblings(sqlite_url, BNLAB_FAILED_KEYS_PER_MINUTE="2") as api:
        for pid in api.serving:
            with standing_still(pid):
                answers = [httpx.get(f"{api.url}/v1/experiments", headers=WRONG, timeout=300) for _ in range(2)]
            # Together they allow what one process would.
            assert [answer.status_code for answer in answers] == [401, 429]
        api.running.send_signal(signal.SIGTERM)
        assert api.running.wait(60) == 0
        assert all_gone(api.serving)


@pytest.mark.system
def test_one_that_dies_is_replaced_and_nobody_is_turned_away_meanwhile(sqlite_url: str) -> None:
    with siblings(sqlite_url, BNLAB_EXIT_ON_EOF="1") as api:
        os.kill(api.serving[0], signal.SIGKILL)
        for _ in range(20):
            assert httpx.get(f"{api.url}/healthz", timeout=300).status_code == 200
        replaced = api.await_serving()
        for pid in (api.serving[1], replaced):
            os.kill(pid, signal.SIGKILL)
        # There is nobody: this waits for the next to come.
        assert httpx.get(f"{api.url}/healthz", timeout=300).status_code == 200
        pids = [*api.serving, replaced, api.await_serving(), api.await_serving()]
        assert len(set(pids)) == 5
        assert api.running.stdin is not None
        api.running.stdin.close()
        assert api.running.wait(60) == 0
        assert all_gone(pids)


@pytest.mark.skipif(sys.platform != "linux", reason="a process that was stopped is ended by Linux only")
def test_none_outlives_a_parent_that_is_killed_not_even_a_stopped_one(sqlite_url: str) -> None:
    with siblings(sqlite_url) as api:
        os.kill(api.serving[0], signal.SIGSTOP)
        api.running.kill()
        api.running.wait()
        until(lambda: all_gone(api.serving))


@pytest.mark.parametrize("trouble", ["port", "package"])
def test_what_cannot_start_says_so(sqlite_url: str, shared_api: Any, tmp_path: Path, trouble: str) -> None:
    settings = {"BNLAB_DATABASE_URL": sqlite_url, "BNLAB_PORT": str(shared_api.port)}
    if trouble == "package":
        (tmp_path / "httptools.py").write_text("raise ImportError('not built for this machine')")
        settings |= {"BNLAB_PORT": "0", "PYTHONPATH": str(tmp_path)}
    variables = {**os.environ, "BNLAB_API_PROCESSES": "2", **settings}
    ended = subprocess.run([sys.executable, "-m", "api"], env=variables, capture_output=True, timeout=170)
    assert ended.returncode == 3
    assert {"port": b"address already in use", "package": b"not built for this machine"}[trouble] in ended.stderr


LIVES = """
import json, os, pathlib
if "BNLAB_API_SOCKETS" in os.environ:
    lives = pathlib.Path(os.environ["LIVES"])
    seconds, *rest = json.loads(lives.read_text())
    lives.write_text(json.dumps(rest))
    clock = pathlib.Path(os.environ["CLOCK"])
    clock.write_text(str(float(clock.read_text()) + seconds))
    os._exit(1)
"""
# How long each lived is what they say, however long the machine takes to start one.
PARENT = """
import os, pathlib, sys, types
from api import siblings
from api.settings import ApiSettings
clock = pathlib.Path(os.environ["CLOCK"])
siblings.time = types.SimpleNamespace(monotonic=lambda: float(clock.read_text()))
sys.exit(siblings.run(ApiSettings(api_processes=1, port=0), lambda: None))
"""


def test_early_deaths_are_forgotten_once_a_process_has_settled(sqlite_url: str, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(LIVES)
    lives = tmp_path / "lives.json"
    # Three early deaths in a row are too many, and the one that lived is between the second and the third.
    lives.write_text("[0, 0, 10.5, 0, 0, 0, 0]")
    clock = tmp_path / "clock"
    clock.write_text("0")
    told = {"LIVES": str(lives), "CLOCK": str(clock), "PYTHONPATH": str(tmp_path)}
    variables = {**os.environ, "BNLAB_DATABASE_URL": sqlite_url, **told}
    ended = subprocess.run([sys.executable, "-c", PARENT], env=variables, capture_output=True, timeout=170)
    assert (ended.returncode, lives.read_text()) == (3, "[0]"), ended.stderr
