"""How long the first page of a sorted listing takes where one owner has 100,000 experiments.

Prints milliseconds by the clock and of CPU of a page of 20, of each sort in both directions, the median of five: for
the owner alone, beside a tag that a hundredth has, one that a seventh has, and a state that most are in. Of PostgreSQL
on this machine the CPU is that of its process for the connection and of this one.
`python -m bench.sorted_listings [DATABASE_URL]`, of an empty database; a SQLite file by default.
"""

import statistics
import sys
import tempfile
import time
from pathlib import Path

from sqlalchemy import Connection

from bench.rows import Rows, fill
from store import experiments, migrate
from store.database import Database
from store.experiments import SORTS, Filters, Order
from store.jobs.states import State

ROWS = Rows(100_000, queued=5_000, running=20)
OWNER = "own_0"
FILTERS = {
    "an owner's": Filters(owner=OWNER),
    "of a tag of a hundredth": Filters(owner=OWNER, tags={"paper": "p5"}),
    "of a tag of a seventh": Filters(owner=OWNER, tags={"arm": "3"}),
    "that succeeded": Filters(owner=OWNER, states=(State.SUCCEEDED,)),
}


def measure(url: str) -> None:
    """Fill the database, and print a line a sort."""
    migrate.upgrade(url)
    database = Database(url)
    fill(database, ROWS)
    with database.engine.begin() as connection:
        connection.exec_driver_sql(f"UPDATE jobs SET owner = '{OWNER}'")
        for table in ("experiments", "experiment_tags"):
            connection.exec_driver_sql(f"UPDATE {table} SET submitted_by = '{OWNER}'")
    for statistic in ("without statistics", "with statistics"):
        print(f"{database.engine.dialect.name}, {statistic}: milliseconds by the clock (and of CPU)")
        for said, filters in FILTERS.items():
            for name in SORTS:
                found = [_page(database, filters, Order(name, downwards)) for downwards in (False, True)]
                print(f"  {said}, {name}: " + ", ".join(f"{wall:.1f} ({cpu:.1f})" for wall, cpu in found), flush=True)
        with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql("ANALYZE")
    database.dispose()


def _page(database: Database, filters: Filters, order: Order) -> tuple[float, float]:
    walls, cpus = [], []
    for _ in range(5):
        with database.look() as session:
            server = server_of(session)
            wall, cpu, theirs = time.perf_counter(), time.process_time(), cpu_of(server)
            experiments.sorted_page(session, filters, order, limit=20)
            walls.append(1e3 * (time.perf_counter() - wall))
            cpus.append(1e3 * (time.process_time() - cpu + cpu_of(server) - theirs))
    return statistics.median(walls), statistics.median(cpus)


def server_of(session: Connection) -> Path | None:
    """Where Linux says what the server's process of this connection has used; None where there is none here."""
    if session.dialect.name == "sqlite":
        return None
    found = Path(f"/proc/{session.exec_driver_sql('SELECT pg_backend_pid()').scalar_one()}/schedstat")
    return found if found.exists() else None


def cpu_of(server: Path | None) -> float:
    """Seconds."""
    return 0.0 if server is None else int(server.read_text().split()[0]) / 1e9


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as directory:
        measure(sys.argv[1] if len(sys.argv) > 1 else f"sqlite:///{Path(directory)}/rows.db")
