"""From the outbox to the broker: ringing the bells.

Invariant: a bell leaves the outbox only after its message is out, and no database session is open while it is
published; so a bell may be rung twice, and is never lost here. What the broker loses is rung again.
"""

from store import outbox
from store.database import Database, now
from worker.broker import Broker

_BATCH = 100
_MOST_RINGS = 32


class Bells:
    """The outbox and the broker."""

    def __init__(self, database: Database, broker: Broker, *, rering_seconds: float) -> None:
        self._database = database
        self._broker = broker
        self._rering_seconds = rering_seconds

    def ring(self) -> bool:
        """Ring the bells of the outbox; whether there are more than fit into one turn."""
        with self._database.read() as session:
            bells = [(bell.id, bell.device) for bell in outbox.pending(session, _BATCH)]
        if not bells:
            return False
        for _, device in bells:
            self._broker.ring(device)
        with self._database.write() as session:
            outbox.delete(session, [bell_id for bell_id, _ in bells])
        return len(bells) == _BATCH

    def ring_again(self) -> None:
        """Ring for queues where something waits, that nobody has claimed from lately, and whose bells are gone."""
        for device, count in self._unclaimed().items():
            if self._broker.waiting(device) == 0:
                for _ in range(min(count, _MOST_RINGS)):
                    self._broker.ring(device)

    def _unclaimed(self) -> dict[str, int]:
        with self._database.read() as session:
            lately = now(session) - self._rering_seconds
            return {
                device: count
                for device, count in outbox.queued_counts(session).items()
                if (outbox.last_claim_at(session, device) or 0.0) < lately
            }
