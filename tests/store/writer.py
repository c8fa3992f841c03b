"""What a worker does all day, quickly and to the database in argv[1]; run eight times at once by test_races."""

import sys

from bncore.events import MetricsBlock
from bncore.spec import load_spec
from store import experiments, results, work
from store.database import Database
from store.experiments import Submission
from store.jobs.leases import Terms, Worker, new_token

for number in range(2):
    database = Database(sys.argv[1])
    with database.write() as session:
        experiments.submit(session, Submission.of(load_spec({})), owner="own_1", device="cpu")
    with database.write() as session:
        claim = work.take(session, Worker("prc_1", "cpu", "Model A", "2.13.0"), Terms(60.0), new_token())
    assert claim is not None
    for step in range(10):
        block = MetricsBlock(first_step=step + 1, count=1, values={"train/loss": [float(number)]})
        with database.write() as session:
            results.append(session, claim.lease, [block])
        with database.read() as session:
            results.series(session, claim.lease.job_id)
    with database.write() as session:
        work.finish(session, claim.lease, work.Succeeded("budget", {}))
    database.dispose()
