"""What this package itself refuses; what it means over HTTP is one table in `api.errors`."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from bncore.spec import Fault
from bncore.spec.wording import nearest


class ApiError(Exception):
    """Something this package refuses."""

    code: ClassVar[str] = "api_error"

    def __init__(self, detail: str, headers: Mapping[str, str] | None = None, **facts: Any) -> None:
        super().__init__(detail)
        self.headers = dict(headers or {})
        self.facts = facts
        self.faults: Sequence[Fault] = ()


class Unauthenticated(ApiError):
    code = "unauthenticated"

    def __init__(self) -> None:
        super().__init__("Send a valid API key as `Authorization: Bearer <key>`.", {"WWW-Authenticate": "Bearer"})


class Forbidden(ApiError):
    code = "forbidden"

    def __init__(self, scope: str) -> None:
        super().__init__(f"This API key lacks the scope `{scope}`.")


class TooManyRequests(ApiError):
    code = "too_many_requests"

    def __init__(self, headers: Mapping[str, str]) -> None:
        super().__init__("This is too often; the headers say when it is not.", headers)


class InvalidParameter(ApiError):
    """One that is right by itself, and not with the others."""

    code = "invalid_parameters"

    def __init__(self, name: str, detail: str) -> None:
        super().__init__("A parameter is not as it should be.")
        self.faults = [Fault(f"/query/{name}", detail, "not_allowed")]


class InvalidBody(ApiError):
    code = "invalid_body"

    def __init__(self, faults: Sequence[Fault]) -> None:
        super().__init__("The body is not as it should be.")
        self.faults = faults


class BodyTooLarge(ApiError):
    code = "body_too_large"

    def __init__(self, max_body_bytes: int) -> None:
        super().__init__(f"The body may have at most {max_body_bytes} bytes.", max_body_bytes=max_body_bytes)


class UnsupportedMediaType(ApiError):
    code = "unsupported_media_type"

    def __init__(self) -> None:
        super().__init__("Send JSON in UTF-8, as application/json and without a content encoding.")


class LengthRequired(ApiError):
    code = "length_required"

    def __init__(self) -> None:
        super().__init__("Say in Content-Length how many bytes come, at least one; send no Content-Encoding.")


class DigestRequired(ApiError):
    code = "digest_required"

    def __init__(self) -> None:
        super().__init__("Say what comes: `Content-Digest: sha-256=:<base64>:` (RFC 9530).")
        self.faults = [Fault("/header/Content-Digest", "Must have the sha-256 of the body", self.code)]


class DigestMismatch(ApiError):
    code = "digest_mismatch"

    def __init__(self, found: str) -> None:
        super().__init__("What came is not what Content-Digest says; send it again.", sha256=found)


class NoAnswerInTime(ApiError):
    """Every worker was busy, or there was none."""

    code = "no_answer_in_time"

    def __init__(self, seconds: float) -> None:
        super().__init__(f"No worker answered within {seconds:g} seconds; try again.", {"Retry-After": "10"})


class PredictionFailed(ApiError):
    """A worker tried."""

    code = "prediction_failed"

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"The worker could not predict: {message}", {"Retry-After": "10"}, failure=code)


class FigureNotFound(ApiError):
    """The results do not allow it, or there is none of that name."""

    code = "figure_not_found"

    def __init__(self, name: str, allowed: Sequence[str], recordings: str | None, of: str = "experiment") -> None:
        """`recordings` are of the kind that it shows, where there is such a figure and it does not show series."""
        lacking = f", for it has no {recordings}" if recordings else ""
        close = None if recordings else nearest(name.lower(), allowed)
        what = f"did you mean {close}? What" if close else "what"
        there = f"{what} it has allows {', '.join(allowed)}" if allowed else "it has nothing yet that could be drawn"
        super().__init__(f"There is no figure {name} of this {of}{lacking}; {there}.")


class AsideBusy(ApiError):
    """The process beside this one has too much to do."""

    code = "overloaded"

    def __init__(self) -> None:
        super().__init__("Too many figures and tables are asked for at once; try again.", {"Retry-After": "5"})


class AsideLost(ApiError):
    """The process beside this one died, or took too much CPU time or stood still, and was ended."""

    code = "drawing_interrupted"

    def __init__(self) -> None:
        detail = (
            "What draws figures and writes tables died or took too much, and starts anew; try again, or ask for less."
        )
        super().__init__(detail, {"Retry-After": "1"})


class AsideRefused(ApiError):
    """What was asked for cannot be made of what there is."""

    code = "not_drawable"

    def __init__(self, reason: str, detail: str, field: str | None = None) -> None:
        """`field` is what would have to be otherwise, where that is one thing that was asked for."""
        super().__init__(f"{detail}.", reason=reason)
        self.field = field


class RangeNotSatisfiable(ApiError):
    code = "range_not_satisfiable"

    def __init__(self, size: int) -> None:
        super().__init__(f"The file has {size} bytes.", {"Content-Range": f"bytes */{size}"})


class IdempotencyKeyInvalid(ApiError):
    code = "idempotency_key_invalid"

    def __init__(self) -> None:
        super().__init__("An idempotency key is 1 to 255 visible ASCII characters, quoted or bare, and given once.")
