"""A short run of the chaos script; `make chaos` has the long one."""

import signal
import subprocess
import sys
import time
from contextlib import ExitStack

import pytest

from bench.chaos.monitor import Monitor
from bench.chaos.run import Options, run
from bench.chaos.schedule import KINDS, schedule

# Five processes start, four of them several times.
pytestmark = pytest.mark.timeout(900)


def test_the_order_of_actions_depends_on_the_seed_alone():
    assert schedule(3, 600.0, "sqlite") == schedule(3, 600.0, "sqlite")
    assert schedule(3, 600.0, "sqlite") != schedule(4, 600.0, "sqlite")


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_a_round_has_every_kind_of_action(database):
    kinds = [kind.name for kind in KINDS if kind.only_on in (None, database)]
    assert sorted(action.kind for action in schedule(5, 3600.0, database)[: len(kinds)]) == sorted(kinds)


_TRAINS = """
import pathlib, sys, time
folder = pathlib.Path(sys.argv[1])
folder.mkdir(parents=True)
with (folder / "events.jsonl").open("ab", buffering=0) as events:
    while True:
        events.write(b".")
        time.sleep(0.01)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_two_trainers_of_one_job_are_seen_unless_one_is_stopped(tmp_path):
    monitor = Monitor(tmp_path)
    with ExitStack() as ending:
        for number in (1, 2):
            command = [sys.executable, "-c", _TRAINS, str(tmp_path / "exp_1" / str(number))]
            process = ending.enter_context(subprocess.Popen(command, cwd=tmp_path))
            ending.callback(process.kill)
            if number == 1:
                process.send_signal(signal.SIGSTOP)
                first = process
        monitor.start()
        ending.callback(monitor.stop)
        _await(lambda: monitor.looks > 10)
        assert monitor.together == []
        first.send_signal(signal.SIGCONT)
        _await(lambda: monitor.together)
    assert {attempt for _, attempt in monitor.together[0].attempts} == {1, 2}


def _await(true):
    deadline = time.monotonic() + 180.0
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.system
def test_whatever_breaks_nothing_is_lost_nothing_done_twice_and_no_bit_differs():
    said: list[str] = []
    options = Options(2025, "sqlite", seconds=3.0, jobs=3, specs=("dropout",), mean_gap_seconds=0.5)
    faults = run(options, said.append)
    assert faults == 0, "\n".join(said)
