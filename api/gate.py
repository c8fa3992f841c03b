"""Who is let in, and how often.

Invariant: an address that has shown too many wrong keys is refused before the database is asked about another one; a
key that was good lately is no guess, wherever it comes from. What one owner asks too much costs no other owner.
"""

import ipaddress
import math

from starlette.requests import Request

from api.rates import Rate, Standing
from api.refusals import TooManyRequests

_IPV6_PREFIX_BITS = 64
"""What one customer gets; whoever has it has all of its addresses."""


class Gate:
    """The limits of one process; a rate of 0 is none."""

    def __init__(self, *, requests_per_second: float, request_burst: int, failed_keys_per_minute: int) -> None:
        self._requests = Rate(requests_per_second, request_burst) if requests_per_second else None
        self._failures = Rate(failed_keys_per_minute / 60, failed_keys_per_minute) if failed_keys_per_minute else None
        self._policy = _policy("owner", self._requests).encode() if self._requests else b""

    def admit(self, owner: str) -> list[tuple[bytes, bytes]]:
        """Count a request of an owner; the headers of its answer. Raises `TooManyRequests`."""
        if self._requests is None:
            return []
        standing = self._requests.take(owner)
        if not standing.allowed:
            raise TooManyRequests(_headers("owner", self._requests, standing))
        return [(b"ratelimit-policy", self._policy), (b"ratelimit", _left("owner", standing).encode())]

    def require_patience(self, request: Request) -> None:
        """Raises `TooManyRequests` where too many wrong keys come from."""
        if self._failures is None:
            return
        standing = self._failures.look(_address(request))
        if not standing.allowed:
            raise TooManyRequests(_headers("failed_keys", self._failures, standing))

    def note_failure(self, request: Request) -> None:
        """Somebody showed a wrong key."""
        if self._failures is not None:
            self._failures.take(_address(request))


def _address(request: Request) -> str:
    host = request.client.host if request.client else ""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    if isinstance(address, ipaddress.IPv4Address):
        return host
    return str(ipaddress.ip_network((int(address), _IPV6_PREFIX_BITS), strict=False))


def _headers(name: str, rate: Rate, standing: Standing) -> dict[str, str]:
    return {
        "RateLimit-Policy": _policy(name, rate),
        "RateLimit": _left(name, standing),
        "Retry-After": str(max(1, _whole(standing.wait_seconds))),
    }


def _policy(name: str, rate: Rate) -> str:
    """draft-ietf-httpapi-ratelimit-headers-10: the quota and its window."""
    return f'"{name}";q={rate.burst};w={max(1, round(rate.window_seconds))}'


def _left(name: str, standing: Standing) -> str:
    """The same: what remains, and when it is whole again."""
    return f'"{name}";r={standing.remaining};t={_whole(standing.full_in_seconds)}'


def _whole(seconds: float) -> int:
    # What was added to a clock and taken from it again is off by its last digit.
    return max(0, math.ceil(seconds - 1e-6))
