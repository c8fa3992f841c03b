"""Whose turn it is at the process beside this one.

Invariant: one at a time; owners take turns, and of one owner whoever came first is first. So an owner who asks for much
makes another wait for what is being made and one more, not for all of it.
"""

import asyncio
import collections


class Line:
    """Take a turn with `acquire`, and give it on with `release`."""

    def __init__(self) -> None:
        self._is_taken = False
        # Owners in the order of their next turns, none of whom waits for nothing.
        self._waiting: dict[str, collections.deque[asyncio.Future[None]]] = {}

    @property
    def is_taken(self) -> bool:
        """Whether it is somebody's turn."""
        return self._is_taken

    @property
    def waiting(self) -> int:
        """How many wait."""
        return sum(map(len, self._waiting.values()))

    def waiting_of(self, owner: str) -> int:
        """How many of an owner wait."""
        return len(self._waiting.get(owner, ()))

    async def acquire(self, owner: str) -> None:
        """Returns when it is this caller's turn; one that is cancelled has none."""
        if not self._is_taken:
            self._is_taken = True
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(owner, collections.deque()).append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.cancelled():
                self._forget(owner, turn)
            else:
                # It came, and nobody is there any more to take it.
                self.release()
            raise

    def release(self) -> None:
        """The turn of the next owner; this one's next comes after all others'."""
        while self._waiting:
            owner = next(iter(self._waiting))
            mine = self._waiting.pop(owner)
            turn = mine.popleft()
            if mine:
                self._waiting[owner] = mine
            if not turn.done():
                turn.set_result(None)
                return
        self._is_taken = False

    def _forget(self, owner: str, turn: "asyncio.Future[None]") -> None:
        mine = self._waiting.get(owner)
        if mine is not None and turn in mine:
            mine.remove(turn)
            if not mine:
                del self._waiting[owner]
