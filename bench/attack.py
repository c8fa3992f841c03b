"""Pruned sweeps and studies on PostgreSQL whose connections break and whose processes die, against undisturbed ones.

    python -m bench.attack [--rounds 5] [--seed 1] [--minutes 20]

A real stack: API, relay, two workers, Redis, PostgreSQL behind a port that is taken away. Once undisturbed, a sweep of
16 experiments that is pruned and a study of 12 that is extended by one seed; then both at once, round by round, while
every second or so, at moments drawn from the seed: all connections to the database are dropped, answers are withheld
and then dropped (whoever has committed does not know it), the database is away for a while or crashes, a worker, the
relay, the API or all of them are killed. Compared are what the rungs decided, where each run ended, weights and every
number of those that are left, verdicts, looks and rows. 0 when nothing is lost and nothing differs.
"""

import argparse
import random
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy.exc import DBAPIError

from bench.chaos.servers import PostgreSql, own_directory
from bench.study_kills import QUICK, numbers
from store import migrate, studies, sweeps
from store.database import Database
from store.jobs.states import TERMINAL, State
from store.jobs.wishes import By
from store.queueing import Limits
from store.sweeps import rungs
from tests.conftest import RedisServer, free_port
from tests.proxy import Proxy
from tests.stack import Stack
from tests.worker.test_pruning import bits
from tests.worker.test_pruning import submit as submit_sweep
from tests.worker.test_studies import submit as submit_study

_WORKERS = ("worker", "worker-2")
_LONGEST_SECONDS = 900.0


@dataclass
class Scene:
    """The stack; its processes reach the database by the port, we past it."""

    stack: Stack
    proxy: Proxy
    server: PostgreSql
    draws: random.Random
    done: dict[str, int] = field(default_factory=dict)

    def disturb(self) -> None:
        """One of the disturbances, which are all over when it returns."""
        often: list[Callable[[], None]] = [self.drop, self.drop, self.drop, self.withhold, self.withhold]
        do = self.draws.choice([*often, self.away, self.crash, self.kill, self.kill])
        do()
        self.done[do.__name__] = self.done.get(do.__name__, 0) + 1

    def drop(self) -> None:
        for _ in range(self.draws.randint(1, 6)):
            self.proxy.drop()
            time.sleep(self.draws.uniform(0.0, 0.3))

    def withhold(self) -> None:
        self.proxy.withhold_answers()
        time.sleep(self.draws.uniform(0.01, 0.3))
        self.proxy.drop()

    def away(self) -> None:
        self.proxy.cut()
        time.sleep(self.draws.uniform(0.2, 3.0))
        self.proxy.mend()

    def crash(self) -> None:
        self.server.crash()
        self.server.start()

    def kill(self) -> None:
        names = self.draws.choice([*((one,) for one in (*_WORKERS, "relay", "api")), (*_WORKERS, "relay", "api")])
        for name in names:
            self.stack.kill(name)
        time.sleep(self.draws.uniform(0.0, 0.5))
        for name in names:
            self.stack.start(name)


def main() -> int:
    """Round by round."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=20.0, help="no round is begun after that")
    given = parser.parse_args()
    directory, server, broker = own_directory("bnlab-attack-"), PostgreSql(), RedisServer()
    server.start()
    broker.start()
    migrate.upgrade(server.url())
    proxy = Proxy(server.connect)
    try:
        with Stack(directory, server.url(), broker.url, **QUICK, BNLAB_PORT=str(free_port())) as stack:
            stack.environment["BNLAB_DATABASE_URL"] = server.url(proxy.port)
            stack.start("api")
            stack.start_warm("relay", *_WORKERS)
            return _rounds(Scene(stack, proxy, server, random.Random(given.seed)), given.rounds, 60 * given.minutes)
    finally:
        broker.stop()
        proxy.cut()
        server.delete()
        shutil.rmtree(directory, ignore_errors=True)


def _rounds(scene: Scene, rounds: int, seconds: float) -> int:
    began, wrong = time.monotonic(), 0
    expected = _through(scene, "own_0", disturbed=False)
    print(f"undisturbed: {time.monotonic() - began:.0f} s", flush=True)
    for number in range(1, rounds + 1):
        if time.monotonic() - began > seconds:
            break
        scene.done.clear()
        at = time.monotonic()
        found = _through(scene, f"own_{number}", disturbed=True)
        differs = [name for name in expected if found[name] != expected[name]]
        wrong += bool(differs)
        said = f"DIFFERS: {', '.join(differs)}" if differs else "the same"
        print(f"round {number}: {time.monotonic() - at:.0f} s, {scene.done}: {said}", flush=True)
    print(f"{wrong} rounds differ")
    return 1 if wrong else 0


def _through(scene: Scene, owner: str, *, disturbed: bool) -> dict[str, Any]:
    """A sweep and a study side by side, to their ends; and the study once more, with a seed more."""
    stack = scene.stack
    sweep, study = submit_sweep(stack, owner), submit_study(stack)
    _until(scene, lambda database: _has_ended(database, sweep, study), disturbed)
    with stack.database.write() as session:
        studies.extend(session, studies.get(session, study), 1, By("own_tests"), Limits())
    _until(scene, lambda database: _has_ended(database, sweep, study), disturbed)
    return {**_of_sweep(stack, sweep), "study": numbers(stack, study)}


def _until(scene: Scene, is_over: Callable[[Database], bool], disturbed: bool) -> None:
    began = time.monotonic()
    while not _asked(scene, is_over):
        if time.monotonic() - began > _LONGEST_SECONDS:
            raise SystemExit(f"it has not ended within {_LONGEST_SECONDS:.0f} s, after {scene.done}")
        if disturbed:
            scene.disturb()
        time.sleep(scene.draws.uniform(0.2, 2.5) if disturbed else 0.5)


def _asked(scene: Scene, is_over: Callable[[Database], bool]) -> bool:
    try:
        return is_over(scene.stack.database)
    except DBAPIError:
        # The connection that we had is one of those that a crash has cut.
        scene.stack.database.dispose()
        return False


def _has_ended(database: Database, sweep: str, study: str) -> bool:
    with database.read() as session:
        state = sweeps.state_of(sweeps.get(session, sweep), sweeps.standing(session, sweep))
        return state in TERMINAL and studies.get(session, study).state in TERMINAL


def _of_sweep(stack: Stack, sweep_id: str) -> dict[str, Any]:
    with stack.database.read() as session:
        rows = sweeps.members(session, sweep_id, limit=100).rows
        decided = [
            (one.bracket, one.step, one.points, one.kept)
            for one in rungs.progress(session, sweeps.get(session, sweep_id))
        ]
    ends = {(row.point, row.seed): (row.experiment.state, row.experiment.step) for row in rows}
    left = {(row.point, row.seed): row.experiment.id for row in rows if row.experiment.state is State.SUCCEEDED}
    return {"rungs": decided, "ends": ends, "bits": {place: bits(stack, one) for place, one in left.items()}}


if __name__ == "__main__":
    sys.exit(main())
