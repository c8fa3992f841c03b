"""What the indexes of sorted listings cost at submission: `python -m bench.submission_indexes [REPEATS]`.

Milliseconds of CPU of a submission of 10,000 experiments of one owner beside 100,000, with the six indexes of migration
0014 and without, in turns in two databases that are copies of each other; all repeats, and the ratio of their medians.
Of PostgreSQL the CPU is that of its process for the connection and of this one.
"""

import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

from bench.rows import Rows, fill
from bench.sorted_listings import cpu_of, server_of
from bncore.spec import load_spec
from store import experiments, migrate
from store.database import Database
from store.experiments import Submission
from tests.conftest import PostgresTemplate, _postgresql

ROWS = Rows(100_000, queued=5_000, running=20)
COUNT = 10_000
INDEXES = (
    "ix_experiments_accuracy",
    "ix_experiments_owner_accuracy",
    "ix_experiments_stop",
    "ix_experiments_owner_stop",
    "ix_jobs_ended",
    "ix_jobs_owned_ended",
)
SUBMISSION = Submission.of(load_spec({"tags": {"paper": "a", "arm": "1"}}))


def main() -> None:
    """Print a line a database."""
    repeats = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    with tempfile.TemporaryDirectory() as directory:
        one, other = (f"sqlite:///{directory}/{name}.db" for name in ("with", "without"))
        _fill(one)
        shutil.copyfile(Path(directory) / "with.db", Path(directory) / "without.db")
        _compare(one, other, repeats)
        with _postgresql(Path(directory).name) as server:
            template = PostgresTemplate(lambda name: str(server.get_uri(database=name, driver=None)), "postgres")
            filled = template.clone("template0")
            _fill(template.uri(filled))
            _compare(template.uri(filled), template.uri(template.clone(filled)), repeats)


def _fill(url: str) -> None:
    migrate.upgrade(url)
    database = Database(url)
    fill(database, ROWS)
    database.dispose()


def _compare(one: str, other: str, repeats: int) -> None:
    databases = {"with": Database(one), "without": Database(other)}
    with databases["without"].engine.begin() as connection:
        for name in INDEXES:
            connection.exec_driver_sql(f"DROP INDEX {name}")
    found: dict[str, list[float]] = {name: [] for name in databases}
    for repeat in range(repeats + 1):
        for name, database in databases.items():
            cost = _submit(database)
            # The first is for what is done once.
            found[name] += [cost] * bool(repeat)
    middles = {name: statistics.median(costs) for name, costs in found.items()}
    said = ", ".join(f"{name} {' '.join(f'{cost:.0f}' for cost in costs)}" for name, costs in found.items())
    ratio = middles["with"] / middles["without"]
    sys.stdout.write(f"{databases['with'].engine.dialect.name}: {said}; {ratio:.3f}\n")
    sys.stdout.flush()
    for database in databases.values():
        database.dispose()


def _submit(database: Database) -> float:
    with database.write() as session:
        server = server_of(session.connection())
        began = time.process_time() + cpu_of(server)
        experiments.submit_many(session, [SUBMISSION] * COUNT, owner="own_0", device="cpu")
    # What has committed still has its process: the connection goes back to its pool.
    return 1e3 * (time.process_time() + cpu_of(server) - began)


if __name__ == "__main__":
    main()
