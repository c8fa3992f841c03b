"""Which part of a file a request asks for (RFC 9110, section 14): one range or the whole.

Several ranges at once, and what cannot be read, are answered with the whole file, as the RFC allows.
"""

import re
from dataclasses import dataclass

from starlette.requests import Request

from api.refusals import RangeNotSatisfiable

# More digits than any size has.
_ONE_RANGE = re.compile(r"bytes=([0-9]{0,18})-([0-9]{0,18})", re.ASCII)


@dataclass(frozen=True)
class Span:
    """Bytes `first` to `last`, both included, of a file of `size` bytes."""

    first: int
    last: int
    size: int

    @property
    def length(self) -> int:
        return self.last - self.first + 1

    @property
    def content_range(self) -> str:
        return f"bytes {self.first}-{self.last}/{self.size}"


def span_wanted(request: Request, tag: str, size: int) -> Span | None:
    """The part of a file with this ETag; None for all of it. Raises `RangeNotSatisfiable` for one behind its end."""
    given = request.headers.getlist("range")
    # Range means something in GET only; If-Range, only while the file is the one that the client has begun.
    if len(given) != 1 or request.scope["state"]["head"] or request.headers.get("if-range", tag) != tag:
        return None
    found = _ONE_RANGE.fullmatch(given[0].strip().lower())
    if found is None or not any(found.groups()):
        return None
    first, last = found.groups()
    if not first:
        start, end = max(0, size - int(last)), size - 1
    else:
        start, end = int(first), min(int(last or size), size - 1)
        if last and int(last) < start:
            return None
    if start >= size:
        raise RangeNotSatisfiable(size)
    return Span(start, end, size)
