"""From the outbox to the broker: ringing the bells.

Invariant: a bell leaves the outbox only after its message is out, and no database session is open while it is
published; so a bell may be rung twice, and is never lost here. What the broker loses costs the seconds after which
workers look by themselves. A queue has never many more messages than workers to hear them, however many jobs wait.
"""

from collections import Counter
from collections.abc import Sequence

from store import processes
from store.database import Database
from store.jobs import bells
from store.tables import Process
from worker.broker import Broker

_BATCH = 1000
_MOST_RINGS = 32
_LIVE_SECONDS = 20.0


class Bells:
    """The outbox and the broker."""

    def __init__(self, database: Database, broker: Broker) -> None:
        self._database = database
        self._broker = broker

    def ring(self) -> bool:
        """Ring the bells of the outbox; whether there are more than fit into one turn."""
        # At every change of the database, most of which are no bells.
        with self._database.look() as connection:
            hanging = bells.hanging(connection, _BATCH)
        if not hanging:
            return False
        with self._database.read() as session:
            workers = _workers(processes.live(session, within_seconds=_LIVE_SECONDS))
        wanted: Counter[str] = Counter()
        for bell in hanging:
            wanted[bell.queue] += bell.jobs
        for queue, jobs in wanted.items():
            self._wake(queue, jobs, workers[queue])
        with self._database.write() as session:
            bells.take_down(session, [bell.id for bell in hanging])
        return len(hanging) == _BATCH

    def _wake(self, queue: str, jobs: int, workers: int) -> None:
        # A worker that is awake takes all there is. One message too many costs a query; one too few, a worker's help.
        hearers = min(max(workers, 1), _MOST_RINGS)
        unheard = self._broker.waiting(queue) if jobs > 1 else 0
        for _ in range(max(1, min(jobs, hearers - unheard))):
            self._broker.ring(queue)


def _workers(living: Sequence[Process]) -> Counter[str]:
    return Counter(process.device or "" for process in living if process.kind == "worker")
