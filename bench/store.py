"""What calls of the store cost at ten thousand jobs and at a million, on both databases: `python -m bench.store`.

CPU is that of this process: all of SQLite's work and none of a PostgreSQL server's, whose share is in the wall time.
What matters are the ratios between the sizes: a call whose ratio grows with the table reads the table.
"""

import argparse
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.rows import Rows, fill, job_id
from bncore.events import MetricsBlock
from bncore.spec import load_spec
from store import experiments, migrate, purging, results, work
from store.database import Database
from store.experiments import Filters, Submission
from store.jobs import bells, leases, reaper
from store.jobs.leases import Terms, Worker
from store.jobs.states import State
from tests.conftest import PostgresTemplate, _postgresql

WORKER = Worker("prc_1", "cpu", "Model A", "2.13.0")
OWNER = "own_3"
FILTERS = {
    "none": Filters(),
    "owner": Filters(owner=OWNER),
    "state": Filters(owner=OWNER, states=(State.FAILED,)),
    "two states": Filters(owner=OWNER, states=(State.FAILED, State.SUCCEEDED)),
    "tag": Filters(owner=OWNER, tags={"arm": "3"}),
    "tag key": Filters(owner=OWNER, tags={"paper": None}),
    "name": Filters(owner=OWNER, name="run-3"),
}
Cost = tuple[float, float]
"""Milliseconds of CPU and of wall time."""


def main() -> None:
    """Print a line a call: milliseconds at each size, and the ratio of the last to the first."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 1_000_000])
    parser.add_argument("--databases", nargs="+", default=["sqlite", "postgresql"])
    parser.add_argument("--analyze", action="store_true", help="with the planner's statistics")
    options = parser.parse_args()
    for kind in options.databases:
        sizes = [_measured(kind, rows, options.analyze) for rows in options.rows]
        _print(kind, options.rows, sizes)


def _print(kind: str, rows: list[int], sizes: list[dict[str, Cost]]) -> None:
    heads = "".join(f"{f'cpu {count:,}':>16}{'wall':>8}" for count in rows)
    sys.stdout.write(f"{kind:28}{heads}{'ratio':>8}\n")
    for name in sizes[0]:
        cells = "".join(f"{size[name][0]:>16.2f}{size[name][1]:>8.2f}" for size in sizes)
        # Of wall time: PostgreSQL's work is there alone.
        sys.stdout.write(f"{name:28}{cells}{sizes[-1][name][1] / sizes[0][name][1]:>8.1f}\n")
    sys.stdout.flush()


def _measured(kind: str, rows: int, analyze: bool) -> dict[str, Cost]:
    with _database(kind) as database:
        shape = Rows(rows, queued=min(10_000, rows // 2))
        fill(database, shape)
        if analyze:
            with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
                connection.exec_driver_sql("ANALYZE")
        return dict(_calls(database, shape))


@contextmanager
def _database(kind: str) -> Iterator[Database]:
    directory = Path(tempfile.mkdtemp(prefix="bnlab-bench-"))
    try:
        if kind == "sqlite":
            url = f"sqlite:///{directory}/bnlab.db"
            migrate.upgrade(url)
            database = Database(url)
            yield database
            database.dispose()
            return
        with _postgresql(directory.name) as server:
            template = PostgresTemplate(lambda name: str(server.get_uri(database=name, driver=None)), "postgres")
            migrate.upgrade(template.uri("postgres"))
            database = Database(template.uri("postgres"))
            yield database
            database.dispose()
    finally:
        shutil.rmtree(directory)


def _calls(database: Database, rows: Rows) -> Iterator[tuple[str, Cost]]:
    yield from _reading(database, rows)
    submission = Submission.of(load_spec({"tags": {"paper": "a", "arm": "1"}}))

    def submit(count: int) -> None:
        with database.write() as session:
            experiments.submit_many(session, [submission] * count, owner=OWNER, device="cpu")

    yield "submit", _cost(lambda: submit(1))
    yield "claim", _cost(lambda: _claim(database))
    lease, steps = _claim(database).lease, iter(range(1, 10**6, 10))

    def append() -> None:
        values = {key: [1.0] * 10 for key in ("train/loss", "train/accuracy", "lr")}
        event = MetricsBlock(first_step=next(steps), count=10, values=values)
        with database.write() as session:
            results.append(session, lease, [event])

    yield "append", _cost(append)
    yield "submit_many of 10,000", _cost(lambda: submit(10_000), repeats=1, warm=0)


def _reading(database: Database, rows: Rows) -> Iterator[tuple[str, Cost]]:
    ids = [job_id(number) for number in range(rows.ended - 300, rows.ended)]

    def read(call: Callable[..., object]) -> Cost:
        def once() -> None:
            with database.read() as session:
                call(session)

        return _cost(once)

    yield "get", read(lambda session: experiments.get(session, ids[0], owner=None))
    yield "marks of 300", read(lambda session: experiments.marks(session, ids))
    for name, filters in FILTERS.items():
        yield f"list: {name}", read(lambda session, filters=filters: experiments.page(session, filters))
        far = _far_cursor(database, filters)
        yield (
            f"  page 50: {name}",
            read(lambda session, filters=filters, far=far: experiments.page(session, filters, far)),
        )
    yield "claimable", read(lambda session: bells.claimable(session, "cpu", 32))
    yield "purge, nothing to do", read(purging.is_due)
    yield "reaper's turn", _cost(lambda: _look(database))


def _claim(database: Database) -> work.Claim:
    with database.write() as session:
        claim = work.take(session, WORKER, Terms(60.0, running_per_owner=1000), leases.new_token())
    assert claim is not None
    return claim


def _look(database: Database) -> None:
    with database.write() as session:
        reaper.look(session, lease_seconds=60.0, longest_gap_seconds=10.0)
        reaper.reap(session)
        reaper.end_overdue(session)


def _far_cursor(database: Database, filters: Filters) -> str | None:
    cursor = None
    with database.read() as session:
        for _ in range(49):
            cursor = experiments.page(session, filters, cursor).next_cursor or cursor
    return cursor


def _cost(call: Callable[[], object], *, repeats: int = 40, warm: int = 5) -> Cost:
    for _ in range(warm):
        call()
    cpu, wall = time.process_time(), time.perf_counter()
    for _ in range(repeats):
        call()
    return 1000 * (time.process_time() - cpu) / repeats, 1000 * (time.perf_counter() - wall) / repeats


if __name__ == "__main__":
    main()
