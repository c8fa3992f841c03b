"""Who is there to train."""

from collections.abc import Iterator

from client.calls import Calls
from client.errors import Json


class WorkerCalls(Calls):
    """`/v1/workers`."""

    def workers(self) -> Iterator[Json]:
        """The living workers: what each computes on, what it is at, and what ails it."""
        yield from self._pages("/v1/workers", {})
