"""Studies whose service is killed again and again, against undisturbed ones: the same verdicts, to the bit.

    python -m bench.study_kills [--seeds 3] [--claim gradients-explode-with-depth] [--scale tiny]

A real stack on SQLite: API, relay, worker. For each seed the study is submitted; at moments drawn from the seed the
API, relay or worker, or all of them, are killed (SIGKILL) and started again, until it is judged. Prints what was killed
when, and whether verdicts and rows are those of the undisturbed study; the exit code says so, too.
"""

import argparse
import random
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from bncore.spec.study import load_study
from bncore.studies.asking import checked
from store import migrate, studies
from store.jobs.states import TERMINAL
from store.queueing import Limits, Submitter
from store.studies import StudySubmission
from tests.conftest import RedisServer, free_port
from tests.stack import Stack

_PROCESSES = ("worker", "relay", "api")
_LONGEST_SECONDS = 1800.0
QUICK = {
    "BNLAB_LEASE_SECONDS": "4",
    "BNLAB_TICK_SECONDS": "1",
    "BNLAB_HEARTBEAT_SECONDS": "1",
    "BNLAB_LOOK_SECONDS": "0.5",
}


def submit(stack: Stack, asked: dict[str, Any]) -> str:
    """A study, as the API stores it."""
    spec, one = checked(load_study(asked), lambda document: document)
    made = StudySubmission(spec, one, studies.request_fingerprint(spec))
    with stack.database.write() as session:
        return str(studies.submit(session, made, Submitter("own_bench", "cpu"), Limits()).id)


def is_over(stack: Stack, study_id: str) -> bool:
    with stack.database.read() as session:
        return studies.get(session, study_id).state in TERMINAL


def numbers(stack: Stack, study_id: str) -> Any:
    """What was judged, and from which rows; neither who ran them nor for how long."""
    with stack.database.read() as session:
        study = studies.get(session, study_id)
        if study.state != "succeeded":
            raise SystemExit(f"{study_id} has {study.state}: {study.failure_code}, {study.failure_message}")
        found = studies.verdict(session, study_id)
    rows = [{key: run[key] for key in ("arm", "setting", "seed", "stage", "metrics", "diverged")} for run in found.runs]
    return found.verdicts, found.taken, rows


def disturbed(stack: Stack, asked: dict[str, Any], seed: int) -> tuple[Any, int]:
    """The numbers of a study during which processes were killed, and how often that was."""
    draws, study_id, kills = random.Random(seed), submit(stack, asked), 0
    began = time.monotonic()
    while not is_over(stack, study_id):
        if time.monotonic() - began > _LONGEST_SECONDS:
            raise SystemExit(f"{study_id} has not ended within {_LONGEST_SECONDS:.0f} s")
        pause = draws.uniform(2.0, 15.0)
        names = draws.choice([*((name,) for name in _PROCESSES), _PROCESSES, ("worker", "relay")])
        time.sleep(pause)
        for name in names:
            stack.kill(name)
        print(f"  {time.monotonic() - began:6.1f} s: killed {', '.join(names)}", flush=True)
        kills += 1
        ready = stack.logged("worker").count("trainer_ready")
        for name in names:
            stack.start(name)
        if "worker" in names:
            stack.await_log("worker", "trainer_ready", ready + 1, _LONGEST_SECONDS)
    return numbers(stack, study_id), kills


def main() -> int:
    """Compare, seed by seed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--claim", default="gradients-explode-with-depth")
    parser.add_argument("--scale", default="tiny")
    given = parser.parse_args()
    asked = {"claim": given.claim, "scale": given.scale}
    broker = RedisServer()
    broker.start()
    same = 0
    with tempfile.TemporaryDirectory(prefix="bnlab-kills-") as name:
        url = f"sqlite:///{name}/bnlab.db"
        migrate.upgrade(url)
        with Stack(Path(name), url, broker.url, **QUICK, BNLAB_PORT=str(free_port())) as stack:
            stack.start("api")
            stack.start_warm("relay", "worker")
            undisturbed = submit(stack, asked)
            stack.until("the undisturbed study is judged", lambda: is_over(stack, undisturbed), _LONGEST_SECONDS)
            expected = numbers(stack, undisturbed)
            for seed in range(given.seeds):
                found, kills = disturbed(stack, asked, seed)
                same += found == expected
                print(f"seed {seed}: {kills} kills, {'the same' if found == expected else 'OTHER NUMBERS'}", flush=True)
    broker.stop()
    print(f"{same} of {given.seeds} ended with the verdicts and rows of an undisturbed study")
    return 0 if same == given.seeds else 1


if __name__ == "__main__":
    sys.exit(main())
