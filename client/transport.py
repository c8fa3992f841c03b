"""One HTTP request, tried again while that is safe.

Every request of this client may be repeated: reads change nothing, actions are no-ops the second time, and a submit
carries a key made before its first try. So a lost answer is always answered by asking again.
"""

import json
import math
from collections.abc import Callable, Mapping
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar

import httpx
import stamina
import stamina.instrumentation

from client.errors import ApiError, Unreachable

# 503 and 504 too: a gateway says so while the server behind it restarts.
RETRIED_STATUSES = frozenset({429, 502, 503, 504})
MAX_RETRY_AFTER_SECONDS = 120.0
MIN_RETRY_AFTER_SECONDS = 0.1

Answer = TypeVar("Answer")

# Where structlog is installed, stamina would report retries through it, and that prints to standard output.
stamina.instrumentation.set_on_retry_hooks([stamina.instrumentation.LoggingOnRetryHook])


class Transport:
    """An `httpx.Client` with the key in its headers, and patience."""

    def __init__(self, url: str, api_key: str | None, timeout_seconds: float, retry_seconds: float) -> None:
        headers = {"User-Agent": "bnlab-client"}
        if api_key:
            headers["Authorization"] = f"Bearer {api_key}"
        self.url = url
        self._retry_seconds = retry_seconds
        self._timeout_seconds = timeout_seconds
        try:
            # A loopback server is never behind the proxy that the environment may name for the outside.
            self._http = httpx.Client(
                base_url=url, headers=headers, timeout=timeout_seconds, trust_env=not _is_loopback(url)
            )
        except (httpx.InvalidURL, ValueError, UnicodeEncodeError) as error:
            raise Unreachable(f"{url!r} with this key cannot be used: {error}") from None

    def close(self) -> None:
        self._http.close()

    def request(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        wait_seconds: float = 0.0,
        retry_seconds: float | None = None,
    ) -> httpx.Response:
        """The answer to a request, 2xx or 304. Raises `ApiError` or `Unreachable`, after retries where they help."""
        request = self._http.build_request(
            method,
            path,
            params=params,
            # NaN is sent as it is: the server then names the field it stands in.
            content=None if body is None else json.dumps(body),
            headers={**({} if body is None else {"Content-Type": "application/json"}), **(headers or {})},
            timeout=self._timeout_seconds + wait_seconds,
        )
        return self.retried(lambda: _checked(self._http.send(request)), retry_seconds)

    def once(self, method: str, path: str) -> httpx.Response:
        """One try, for `retried`: raises `ApiError` or what httpx raises."""
        return _checked(self._http.request(method, path))

    def plain(self, method: str, path: str) -> httpx.Response:
        """One try, whatever the status. Raises `Unreachable` when there is no answer."""
        try:
            return self._http.request(method, path)
        except httpx.TransportError as error:
            raise self._unreachable(error) from None

    def stream_to(self, path: str, params: Mapping[str, Any], sink: Callable[[bytes], object]) -> None:
        """Feed a response body to `sink`, chunk by chunk. One try."""
        with self._http.stream("GET", path, params=params) as response:
            if response.is_error:
                response.read()
            _checked(response)
            for chunk in response.iter_bytes():
                sink(chunk)

    def retried(self, call: Callable[[], Answer], retry_seconds: float | None = None) -> Answer:
        """What `call` returns, called again while the server is away, busy or restarting."""
        seconds = self._retry_seconds if retry_seconds is None else retry_seconds
        try:
            for attempt in stamina.retry_context(
                _backoff,
                attempts=1 if seconds <= 0 else None,
                timeout=max(seconds, 0.001),
                wait_initial=0.1,
                wait_max=2.0,
                wait_jitter=0.2,
            ):
                with attempt:
                    return call()
        except httpx.TransportError as error:
            raise self._unreachable(error) from None
        raise AssertionError("stamina either returns or raises")

    def _unreachable(self, error: Exception) -> Unreachable:
        reason = str(error) or type(error).__name__
        return Unreachable(f"No answer from {self.url}: {reason}")


def _is_loopback(url: str) -> bool:
    return httpx.URL(url).host in ("localhost", "127.0.0.1", "::1")


def _backoff(error: Exception) -> bool | float:
    if isinstance(error, ApiError):
        if error.status not in RETRIED_STATUSES:
            return False
        return True if error.retry_after_seconds is None else error.retry_after_seconds
    # A URL that httpx cannot speak stays wrong.
    return isinstance(error, httpx.TransportError) and not isinstance(error, httpx.UnsupportedProtocol)


def _checked(response: httpx.Response) -> httpx.Response:
    if response.is_success or response.status_code == httpx.codes.NOT_MODIFIED:
        return response
    raise ApiError(response.status_code, _problem(response), _retry_after_seconds(response))


def _problem(response: httpx.Response) -> dict[str, Any]:
    try:
        problem = response.json()
    except ValueError:
        problem = None
    if isinstance(problem, dict):
        return problem
    return {"title": response.reason_phrase or "Error", "status": response.status_code}


def _retry_after_seconds(response: httpx.Response) -> float | None:
    """Retry-After is seconds or a date (RFC 9110, 10.2.3)."""
    text = response.headers.get("Retry-After", "")
    try:
        seconds = float(text)
    except ValueError:
        try:
            then, now = parsedate_to_datetime(text), parsedate_to_datetime(response.headers["Date"])
            seconds = (then - now).total_seconds()
        except (ValueError, TypeError, KeyError):
            return None
    return min(max(seconds, MIN_RETRY_AFTER_SECONDS), MAX_RETRY_AFTER_SECONDS) if math.isfinite(seconds) else None
