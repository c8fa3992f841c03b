"""`Client`: the HTTP API as Python calls.

A submit is never done twice: its Idempotency-Key is made before the first try, and every retry carries it. Answers are
the server's JSON objects as they are, so that fields a newer server adds arrive too.
"""

import os
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from bncore.spec import ExperimentSpec
from client.download import fetch, pick
from client.errors import ApiError, ClientError, Json, WaitTimeout
from client.series import Series, decode_series, every_point
from client.transport import Transport

DEFAULT_URL = "http://127.0.0.1:8000"
TERMINAL = frozenset({"succeeded", "failed", "cancelled"})
LONG_POLL_SECONDS = 30.0
OUTAGE_SECONDS = 120.0
"""How long `wait` sits out a server that is away: an experiment outlives a restart of the API."""

Spec = ExperimentSpec | Mapping[str, Any]


def is_terminal(experiment: Mapping[str, Any]) -> bool:
    """Whether nothing will change any more. A state that this client does not know is not the end."""
    return experiment.get("state") in TERMINAL


class Client:
    """A connection to one BNLab server.

    >>> with Client("http://127.0.0.1:8000", api_key="bnl_...") as client:
    ...     experiment = client.submit({"train": {"steps": 500}})
    ...     results = client.wait(experiment["id"])
    ...     loss = client.metrics(experiment["id"], ["train/loss"])["train/loss"]

    `url` and `api_key` default to the environment's BNLAB_URL and BNLAB_API_KEY. `timeout_seconds` bounds one try,
    `retry_seconds` the time after which a failing call is not tried again.
    """

    def __init__(
        self,
        url: str | None = None,
        api_key: str | None = None,
        *,
        timeout_seconds: float = 30.0,
        retry_seconds: float = 30.0,
    ) -> None:
        url = url or os.environ.get("BNLAB_URL") or DEFAULT_URL
        api_key = api_key or os.environ.get("BNLAB_API_KEY")
        self._transport = Transport(url.rstrip("/"), api_key, timeout_seconds, retry_seconds)

    @property
    def url(self) -> str:
        return self._transport.url

    def __enter__(self) -> "Client":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections. Calls after it fail."""
        self._transport.close()

    def readyz(self) -> Json:
        """How the parts of the service are, one word each; a server that is not ready answers as well."""
        try:
            answer: Json = self._transport.plain("GET", "/readyz").json()
        except ValueError:
            raise self._not_json("/readyz") from None
        return answer

    def catalog(self, noun: str) -> list[Json]:
        """What a spec may choose: `normalizers`, `networks`, `datasets`, `optimizers`, `schedules` and so on."""
        answer = self._json("GET", f"/v1/{noun}")
        entries: list[Json] = answer["data"] if isinstance(answer, dict) else answer
        return entries

    def validate(self, spec: Spec) -> Json:
        """The completed spec, its layers and parameter count. Nothing is stored. Raises `ApiError` with faults."""
        answer: Json = self._json("POST", "/v1/experiments:validate", body=_document(spec))
        return answer

    def submit(self, spec: Spec, *, idempotency_key: str | None = None) -> Json:
        """Queue an experiment and return it. Calling again submits again, unless with the same `idempotency_key`."""
        headers = {"Idempotency-Key": idempotency_key or str(uuid.uuid4())}
        answer: Json = self._json("POST", "/v1/experiments", body=_document(spec), headers=headers)
        return answer

    def get(self, experiment_id: str) -> Json:
        """One experiment with its complete spec."""
        answer: Json = self._json("GET", _path(experiment_id))
        return answer

    def list(
        self,
        *,
        state: str | None = None,
        tags: Iterable[str] = (),
        name: str | None = None,
        page_size: int = 100,
    ) -> Iterator[Json]:
        """Experiments, newest first, a page at a time as they are asked for. A tag is `key` or `key:value`."""
        params: dict[str, Any] = {"limit": page_size, "tag": [*tags]}
        params |= {key: value for key, value in (("state", state), ("name", name)) if value is not None}
        yield from self._pages("/v1/experiments", params)

    def results(self, experiment_id: str) -> Json:
        """State, progress, summary, last metric values and checkpoints as they are now."""
        answer: Json = self._json("GET", _path(experiment_id, "results"))
        return answer

    def wait(
        self,
        experiment_id: str,
        timeout_seconds: float | None = None,
        on_progress: Callable[[Json], object] | None = None,
    ) -> Json:
        """The results once the experiment has ended, however it ended.

        `on_progress` is called with the results each time they have changed. Raises `WaitTimeout`.
        """
        deadline = None if timeout_seconds is None else time.monotonic() + timeout_seconds
        etag, results = None, None
        while True:
            left = LONG_POLL_SECONDS if deadline is None else min(LONG_POLL_SECONDS, deadline - time.monotonic())
            asked = time.monotonic()
            answer = self._transport.request(
                "GET",
                _path(experiment_id, "results"),
                params={"wait": max(0, round(left, 1))} if results is not None else None,
                headers={"If-None-Match": etag} if etag else None,
                wait_seconds=LONG_POLL_SECONDS,
                retry_seconds=OUTAGE_SECONDS,
            )
            if answer.status_code != 304:
                results, etag = answer.json(), answer.headers.get("ETag")
                if on_progress is not None:
                    on_progress(results)
                if is_terminal(results):
                    return dict(results)
            if deadline is not None and time.monotonic() >= deadline:
                raise WaitTimeout(experiment_id, timeout_seconds or 0.0, results)
            if etag is None:
                # Without a tag the server cannot wait for a change; ask it once a second.
                time.sleep(max(0.0, 1.0 - (time.monotonic() - asked)))

    def metrics(
        self,
        experiment_id: str,
        keys: Iterable[str] = (),
        *,
        first_step: int | None = None,
        last_step: int | None = None,
        max_points: int | None = None,
    ) -> dict[str, Series]:
        """Metric series by key, all of them if none is named.

        Every point comes, unless `max_points` bounds them: then the server thins a series but keeps every spike.
        """

        def ask(first: int | None, last: int | None, most: int) -> dict[str, Series]:
            bounds = {"first_step": first, "last_step": last, "max_points": most}
            params: dict[str, Any] = {key: value for key, value in bounds.items() if value is not None}
            params["keys"] = wanted
            return decode_series(self._json("GET", _path(experiment_id, "metrics"), params=params))

        wanted = [*keys]
        if max_points is not None:
            return ask(first_step, last_step, max_points)
        return every_point(ask, first_step or 0, last_step)

    def events(self, experiment_id: str) -> Iterator[Json]:
        """The append-only log of what happened to an experiment."""
        yield from self._pages(_path(experiment_id, "events"), {}, cursor_name="after")

    def checkpoints(self, experiment_id: str) -> Iterator[Json]:
        """The checkpoints that can be downloaded now."""
        yield from self._pages(_path(experiment_id, "checkpoints"), {})

    def cancel(self, experiment_id: str) -> Json:
        """Ask for the end. A running experiment saves a checkpoint first; repeating changes nothing."""
        answer: Json = self._json("POST", _path(experiment_id, "cancel"))
        return answer

    def delete(self, experiment_id: str) -> None:
        """Delete an experiment that has ended, with its metrics and checkpoints."""
        path, tries = _path(experiment_id), 0

        def delete_once() -> None:
            nonlocal tries
            tries += 1
            try:
                self._transport.once("DELETE", path)
            except ApiError as error:
                # The first try was done, and its answer lost.
                if error.status != 404 or tries == 1:
                    raise

        self._transport.retried(delete_once)

    def download(
        self, experiment_id: str, checkpoint: str | Mapping[str, Any] = "best", path: str | Path = "."
    ) -> Path:
        """Fetch the weights of a checkpoint into a file, checked against size and sha256, and return where it lies.

        `checkpoint` is an id, an entry of `checkpoints()`, `best` or `last`. `path` is a file, or a directory in which
        the file is named after experiment, kind and step.
        """
        if not isinstance(checkpoint, Mapping):
            checkpoint = pick(list(self.checkpoints(experiment_id)), checkpoint, experiment_id)
        content = _path(experiment_id, "checkpoints", str(checkpoint["id"]), "content")
        return fetch(self._transport, content, checkpoint, experiment_id, Path(path))

    def _json(self, method: str, path: str, **options: Any) -> Any:
        response = self._transport.request(method, path, **options)
        try:
            return response.json()
        except ValueError:
            raise self._not_json(path) from None

    def _not_json(self, path: str) -> ClientError:
        return ClientError(f"{self.url}{path} answered something other than JSON; is it a BNLab server?")

    def _pages(self, path: str, params: Mapping[str, Any], cursor_name: str = "cursor") -> Iterator[Json]:
        cursor: str | int | None = None
        while True:
            page = self._json("GET", path, params={**params, **({cursor_name: cursor} if cursor else {})})
            yield from page["data"]
            cursor = page.get("next_cursor")
            if not cursor:
                return


def _path(experiment_id: str, *parts: str) -> str:
    for part in (experiment_id, *parts):
        # "", "." and ".." would make another path of it, "/" and "?" another request.
        if not part or part.strip(".") == "" or not set(part).isdisjoint("/?#%\\ "):
            raise ClientError(f"{part!r} is not an id")
    return "/".join(("/v1/experiments", experiment_id, *parts))


def _document(spec: Spec) -> Any:
    return spec.model_dump(mode="json") if isinstance(spec, ExperimentSpec) else spec
