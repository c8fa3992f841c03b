"""How often news of a trainer is stored: as soon as it comes, for as long as that costs little.

Invariant: storing takes at most a share of the CPU time that goes by, but for the first news and a small allowance
beside it, and for the last storing, whose cost nobody knows before.
"""

_SHARE = 0.02
_ALLOWANCE_SECONDS = 0.005


class Pace:
    """Of one trainer, from `began` on, by a monotonic clock in seconds."""

    def __init__(self, began: float) -> None:
        self._began = began
        self._spent = 0.0

    def took(self, cpu_seconds: float) -> None:
        """News has been stored, in so much of the processor's time."""
        self._spent += cpu_seconds

    def soonest(self) -> float:
        """When news may be stored next."""
        return self._began + max(0.0, self._spent - _ALLOWANCE_SECONDS) / _SHARE
