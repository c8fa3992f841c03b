"""What an experiment has come to: results, series, events, checkpoints. Numbers are numbers, NaN among them."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from client.calls import Calls, path_of, several
from client.download import checkpoint_name, fetch, pick, target_of
from client.errors import Json
from client.numbers import decoded
from client.series import Series, decode_series, every_point


class ResultCalls(Calls):
    """What lies under one experiment."""

    def results(self, experiment_id: str) -> Json:
        """State, progress, summary, last metric values and checkpoints as they are now."""
        return _results(self._json("GET", path_of(experiment_id, "results")))

    def wait(
        self,
        experiment_id: str,
        timeout_seconds: float | None = None,
        on_progress: Callable[[Json], object] | None = None,
    ) -> Json:
        """The results once the experiment has ended, however it ended.

        `on_progress` is called with the results each time they have changed. Raises `WaitTimeout`.
        """
        return self._ended(path_of(experiment_id, "results"), experiment_id, timeout_seconds, _results, on_progress)

    def metrics(
        self,
        experiment_id: str,
        keys: str | Iterable[str] = (),
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
            return decode_series(self._json("GET", path_of(experiment_id, "metrics"), params=params))

        wanted = several(keys)
        if max_points is not None:
            return ask(first_step, last_step, max_points)
        return every_point(ask, first_step or 0, last_step)

    def events(self, experiment_id: str) -> Iterator[Json]:
        """The append-only log of what happened to an experiment."""
        yield from self._pages(path_of(experiment_id, "events"), {}, cursor_name="after")

    def checkpoints(self, experiment_id: str) -> Iterator[Json]:
        """The checkpoints that can be downloaded now."""
        yield from map(_checkpoint, self._pages(path_of(experiment_id, "checkpoints"), {}))

    def download(
        self, experiment_id: str, checkpoint: str | Mapping[str, Any] = "best", path: str | Path = "."
    ) -> Path:
        """Fetch the weights of a checkpoint into a file, checked against size and sha256, and return where it lies.

        `checkpoint` is an id, an entry of `checkpoints()`, `best` or `last`. `path` is a file, or a directory in which
        the file is named after experiment, kind and step.
        """
        if not isinstance(checkpoint, Mapping):
            checkpoint = pick(list(self.checkpoints(experiment_id)), checkpoint, experiment_id)
        content = path_of(experiment_id, "checkpoints", str(checkpoint["id"]), "content")
        return fetch(self._transport, content, checkpoint, checkpoint_name(experiment_id, checkpoint), target_of(path))


def _results(answer: Json) -> Json:
    numbers: Json = {key: decoded(answer[key]) for key in ("metrics", "summary") if key in answer}
    return {**answer, **numbers, "checkpoints": [_checkpoint(entry) for entry in answer.get("checkpoints", [])]}


def _checkpoint(entry: Json) -> Json:
    return {**entry, "metrics": decoded(entry.get("metrics"))}
