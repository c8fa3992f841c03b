"""What can go wrong between a user and a server, as exceptions whose text is fit to show.

ClientError
├── InvalidSetting    a URL or a key that cannot be used, whatever the server says
├── ApiError          the server answered, and said no
├── Unreachable       no answer after every retry
├── WaitTimeout       the experiment had not ended in the time given
└── DownloadMismatch  what arrived is not what the server stored
"""

from collections.abc import Mapping
from typing import Any

from bncore.spec import Fault
from client.printable import one_line, printable

Json = dict[str, Any]


class ClientError(Exception):
    """Root of everything `client` raises on purpose."""


class InvalidSetting(ClientError, ValueError):
    """A URL or a key that cannot be used. Raised before anything is sent; the text holds no secret."""


class ApiError(ClientError):
    """A problem document (RFC 9457): `status`, `problem` as sent, and `faults` field by field."""

    def __init__(self, status: int, problem: Mapping[str, Any], retry_after_seconds: float | None = None) -> None:
        self.status = status
        self.problem = dict(problem)
        self.retry_after_seconds = retry_after_seconds
        self.faults = [_fault(entry) for entry in _entries(problem)]
        super().__init__(self._text())

    @property
    def title(self) -> str:
        """The problem in one sentence, without its faults."""
        title, detail = self.problem.get("title"), self.problem.get("detail")
        return str(detail or title or f"The server answered {self.status}")

    def _text(self) -> str:
        lines = [f"{self.status}: {printable(self.title)}"]
        lines += [f"  {one_line(fault.pointer) or '(whole body)'}: {one_line(fault.detail)}" for fault in self.faults]
        return "\n".join(lines)


class Unreachable(ClientError):
    """No server answered at the URL, or only a gateway without one behind it."""


class WaitTimeout(ClientError, TimeoutError):
    """The time to wait is over; `results` is the last that was seen, and the experiment goes on, or rests if paused."""

    def __init__(self, experiment_id: str, seconds: float, results: Json | None) -> None:
        self.results = results
        state = one_line(str((results or {}).get("state", "")))
        outlook = (
            f"it is paused, and `bnlab resume {experiment_id}` lets it go on" if state == "paused" else "it goes on"
        )
        shown = f" (state {state})" if state else ""
        super().__init__(f"{experiment_id} has not ended within {seconds:g} seconds{shown}; {outlook}")


class DownloadMismatch(ClientError):
    """Size or sha256 of a download differ from what the server announced; the file was not kept."""


def _entries(problem: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    errors = problem.get("errors")
    return [entry for entry in errors if isinstance(entry, Mapping)] if isinstance(errors, list) else []


def _fault(entry: Mapping[str, Any]) -> Fault:
    return Fault(str(entry.get("pointer", "")), str(entry.get("detail", "")), str(entry.get("code", "")))
