"""What a process remembers of keys, when several things happen at once."""

import asyncio
from collections.abc import Callable
from typing import Any

from api.keyring import Keyring
from api.lanes import Lane
from store import keys
from store.database import Database


class SlowLane(Lane):
    """Its answers are there, and are handed over when `may_go`."""

    def __init__(self) -> None:
        super().__init__("slow", 1, 120.0)
        self.has_read = asyncio.Event()
        self.may_go = asyncio.Event()

    async def run(self, call: Callable[[], Any]) -> Any:
        found = await super().run(call)
        self.has_read.set()
        await self.may_go.wait()
        return found


def test_a_key_that_is_revoked_while_somebody_reads_it_is_good_for_nobody_after(sqlite_url: str) -> None:
    database = Database(sqlite_url)
    with database.write() as session:
        key = keys.create(session, "test")

    async def found_after() -> Any:
        reads = SlowLane()
        keyring = Keyring(database, reads, reads, keep_seconds=3600.0, note_seconds=3600.0)
        reading = asyncio.create_task(keyring.find(key.secret, lambda: None))
        await reads.has_read.wait()
        with database.write() as session:
            keys.revoke(session, key.id)
        keyring.forget(key.id)
        reads.may_go.set()
        await reading
        after = await keyring.find(key.secret, lambda: None)
        reads.close()
        return after

    assert asyncio.run(found_after()) is None
    database.dispose()
