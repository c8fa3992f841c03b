"""One HTTP request, tried again while that is safe.

Nearly every request of this client may be repeated: reads change nothing, actions are no-ops the second time, and a
submit carries a key made before its first try. So a lost answer is answered by asking again. What may not be repeated
says so, and is asked again only where the server certainly did nothing. What asking again cannot mend, a mistake of the
caller's, is never asked twice.
"""

import json
import math
import ssl
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar

import httpx
import stamina
import stamina.instrumentation

from client.address import checked_key, checked_url, is_loopback
from client.errors import ApiError, Unreachable
from client.printable import one_line

# 503 and 504 too: a gateway says so while the server behind it restarts.
RETRIED_STATUSES = frozenset({429, 502, 503, 504})
TOO_OFTEN = 429
"""The one of them that says that nothing was done."""
MAX_RETRY_AFTER_SECONDS = 120.0
MIN_RETRY_AFTER_SECONDS = 0.1
CONNECT_SECONDS = 5.0
"""A host that drops packets is not there; an answer may take longer than that."""

Answer = TypeVar("Answer")

# Where structlog is installed, stamina would report retries through it, and that prints to standard output.
stamina.instrumentation.set_on_retry_hooks([stamina.instrumentation.LoggingOnRetryHook])


class Transport:
    """An `httpx.Client` with the key in its headers, and patience.

    `notice` is told when a call is going to be tried again, and when the server answers again. With `refused_at_once` a
    port of this machine on which nothing listens is told at once, except to a call that brings its own patience.
    """

    def __init__(
        self,
        url: str,
        api_key: str | None,
        timeout_seconds: float,
        retry_seconds: float,
        *,
        refused_at_once: bool = False,
        notice: Callable[[str], object] = lambda _: None,
    ) -> None:
        self.url = checked_url(url)
        key = checked_key(api_key)
        headers = {"User-Agent": "bnlab-client"} | ({"Authorization": f"Bearer {key}"} if key else {})
        self._retry_seconds = retry_seconds
        self._timeout_seconds = timeout_seconds
        self._notice = notice
        local = is_loopback(httpx.URL(self.url).host)
        self._refused_at_once = refused_at_once and local
        # A loopback server is never behind the proxy that the environment may name for the outside.
        self._http = httpx.Client(base_url=self.url, headers=headers, timeout=timeout_seconds, trust_env=not local)

    def close(self) -> None:
        self._http.close()

    def request(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        body: Any = None,
        content: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        timeout_seconds: float | None = None,
        retry_seconds: float | None = None,
        repeatable: bool = True,
    ) -> httpx.Response:
        """The answer to a request, 2xx or 304. Raises `ApiError` or `Unreachable`, after retries where they help."""
        seconds = self._timeout_seconds if timeout_seconds is None else timeout_seconds
        request = self._http.build_request(
            method,
            path,
            params=params,
            # NaN is sent as it is: the server then names the field it stands in.
            content=content if body is None else json.dumps(body),
            headers={**({} if body is None else {"Content-Type": "application/json"}), **(headers or {})},
            timeout=httpx.Timeout(seconds, connect=min(seconds, CONNECT_SECONDS)),
        )
        return self.retried(lambda: _checked(self._http.send(request)), retry_seconds, repeatable=repeatable)

    def do(self, method: str, path: str, says_done: Callable[[ApiError], bool]) -> None:
        """Carry out what is refused where it is done already: after a lost answer such a refusal is the answer."""
        lost = False

        def attempt() -> None:
            nonlocal lost
            try:
                _checked(self._http.request(method, path))
            except ApiError as error:
                if lost and says_done(error):
                    return
                lost = lost or error.status != TOO_OFTEN
                raise
            except httpx.RequestError:
                lost = True
                raise

        self.retried(attempt)

    def plain(self, method: str, path: str) -> httpx.Response:
        """One try, whatever the status. Raises `Unreachable` when there is no answer."""
        try:
            return self._http.request(method, path)
        except httpx.RequestError as error:
            raise self._unreachable(error) from None

    def stream_to(self, path: str, params: Mapping[str, Any], sink: Callable[[bytes], object]) -> None:
        """Feed a response body to `sink`, chunk by chunk. One try."""
        with self._http.stream("GET", path, params=params) as response:
            if response.is_error:
                response.read()
            _checked(response)
            for chunk in response.iter_bytes():
                sink(chunk)

    def retried(
        self, call: Callable[[], Answer], retry_seconds: float | None = None, *, repeatable: bool = True
    ) -> Answer:
        """What `call` returns, called again while the server is away, busy or restarting."""
        seconds = self._retry_seconds if retry_seconds is None else retry_seconds
        refused_at_once = self._refused_at_once and retry_seconds is None
        outage = _Outage(self._notice, self.url, seconds)

        def backoff(error: Exception) -> bool | float:
            return (repeatable or _nothing_was_done(error)) and _backoff(error, refused_at_once)

        try:
            for attempt in stamina.retry_context(
                backoff,
                attempts=1 if seconds <= 0 else None,
                timeout=max(seconds, 0.001),
                wait_initial=0.1,
                wait_max=2.0,
                wait_jitter=0.2,
            ):
                with attempt, outage.noticed(lambda error: seconds > 0 and bool(backoff(error))):
                    return call()
        except httpx.RequestError as error:
            raise self._unreachable(error) from None
        raise AssertionError("stamina either returns or raises")

    def _unreachable(self, error: Exception) -> Unreachable:
        return Unreachable(f"No answer from {self.url}: {_reason(error)}")


class _Outage:
    """From the first try that failed to the answer."""

    def __init__(self, notice: Callable[[str], object], url: str, seconds: float) -> None:
        self._notice, self._url, self._seconds = notice, url, seconds
        self._told = ""

    @contextmanager
    def noticed(self, again: Callable[[Exception], bool]) -> Iterator[None]:
        """Tell of a failure that is followed by another try, once a reason, and of the end of failing."""
        try:
            yield
        except (httpx.RequestError, ApiError) as error:
            what = self._in_words(error)
            if again(error) and what != self._told:
                self._told = what
                self._notice(f"{what}; trying for up to {self._seconds:g} s")
            raise
        if self._told:
            self._notice(f"{self._url} answers again")

    def _in_words(self, error: Exception) -> str:
        if isinstance(error, ApiError):
            return f"{self._url} answers {error.status}: {one_line(error.title)}"
        return f"No answer from {self._url}: {_reason(error)}"


def _nothing_was_done(error: Exception) -> bool:
    if isinstance(error, ApiError):
        return error.status == TOO_OFTEN
    return isinstance(error, httpx.ConnectError | httpx.ConnectTimeout)


def _backoff(error: Exception, refused_at_once: bool) -> bool | float:
    if isinstance(error, ApiError):
        if error.status not in RETRIED_STATUSES:
            return False
        return True if error.retry_after_seconds is None else error.retry_after_seconds
    if not isinstance(error, httpx.TransportError):
        return False
    # What this side did wrong, and a certificate that is not trusted, stay wrong.
    if isinstance(error, httpx.UnsupportedProtocol | httpx.LocalProtocolError) or _caused_by(error, ssl.SSLError):
        return False
    return not (refused_at_once and _caused_by(error, ConnectionRefusedError))


def _caused_by(error: BaseException | None, kind: type[BaseException]) -> bool:
    while error is not None:
        if isinstance(error, kind):
            return True
        error = error.__cause__ or error.__context__
    return False


def _reason(error: Exception) -> str:
    # A request that could not be written is quoted in the text of its error, the key with it.
    unsaid = isinstance(error, httpx.LocalProtocolError) or not str(error)
    return type(error).__name__ if unsaid else one_line(str(error))


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
