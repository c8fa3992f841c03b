"""How often somebody may do something: a token bucket for each, in one number.

Invariant: a bucket holds `burst` and refills at `per_second`; what is stored of it is when it will be full again (the
generic cell rate algorithm), by a clock that nobody sets. Only the event loop calls this.

Not the package `limits`: its store in memory starts a thread for a request that comes after a pause, which alone costs
more than the request may, and goes by the wall clock.
"""

import time
from dataclasses import dataclass

_MOST_KEPT = 10_000


@dataclass(frozen=True, slots=True)
class Standing:
    """How somebody's bucket stands after they took from it."""

    allowed: bool
    remaining: int
    full_in_seconds: float
    wait_seconds: float
    """Until there is enough for one more; 0 when there is."""


class Rate:
    """The buckets of everybody, in the memory of this process; whoever is not in it has a full one."""

    def __init__(self, per_second: float, burst: int) -> None:
        self.burst = burst
        self.window_seconds = burst / per_second
        self._each = 1 / per_second
        self._full_at: dict[str, float] = {}

    def take(self, who: str) -> Standing:
        """Take one, if there is one."""
        now = time.monotonic()
        full_at = max(self._full_at.get(who, now), now) + self._each
        if full_at - now > self.window_seconds * (1 + 1e-9):
            return self._standing(full_at - self._each - now, allowed=False)
        if who not in self._full_at:
            self._make_room(now)
        self._full_at[who] = full_at
        return self._standing(full_at - now, allowed=True)

    def look(self, who: str) -> Standing:
        """Whether there is one to take."""
        full_in = max(self._full_at.get(who, 0.0) - time.monotonic(), 0.0)
        return self._standing(full_in, allowed=full_in + self._each <= self.window_seconds * (1 + 1e-9))

    def _standing(self, full_in: float, *, allowed: bool) -> Standing:
        remaining = max(0, int((self.window_seconds - full_in) / self._each + 1e-6))
        wait = max(0.0, full_in + self._each - self.window_seconds) if remaining < 1 else 0.0
        return Standing(allowed, remaining, full_in, wait)

    def _make_room(self, now: float) -> None:
        if len(self._full_at) < _MOST_KEPT:
            return
        self._full_at = {who: full_at for who, full_at in self._full_at.items() if full_at > now}
        while len(self._full_at) >= _MOST_KEPT:
            del self._full_at[next(iter(self._full_at))]
