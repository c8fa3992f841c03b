"""Experiments as wholes: submit, find, look at.

A submit is never done twice: its Idempotency-Key is made before the first try, and every retry carries it.
"""

import uuid
from collections.abc import Iterator, Mapping
from typing import Any, Unpack

from bncore.spec import ExperimentSpec
from client.address import checked_idempotency_key
from client.calls import Calls, path_of
from client.errors import Json
from client.filters import Filters, query
from client.numbers import decoded

Spec = ExperimentSpec | Mapping[str, Any]


class ExperimentCalls(Calls):
    """`/v1/experiments` and one of them."""

    def validate(self, spec: Spec) -> Json:
        """The completed spec, its layers and parameter count. Nothing is stored. Raises `ApiError` with faults."""
        answer: Json = self._json("POST", "/v1/experiments:validate", body=_document(spec))
        return answer

    def submit(self, spec: Spec, *, idempotency_key: str | None = None) -> Json:
        """Queue an experiment and return it. Calling again submits again, unless with the same `idempotency_key`.

        `warnings` of it say what may not be meant so.
        """
        return self._accepted("/v1/experiments", _document(spec), idempotency_key)

    def clone(
        self, experiment_id: str, patch: Mapping[str, Any] | None = None, *, idempotency_key: str | None = None
    ) -> Json:
        """Submit the spec of an experiment once more, changed by a JSON Merge Patch (RFC 7396); the new one.

        Null takes a field back to its default, and is what a field of another `kind` needs that the new one has not.
        What both kinds have is taken over; `warnings` name what has another default in the new one.
        """
        return self._accepted(path_of(experiment_id, "clone"), dict(patch or {}), idempotency_key)

    def get(self, experiment_id: str) -> Json:
        """One experiment with its complete spec, its place in the queue or the seconds it has left."""
        answer: Json = self._json("GET", path_of(experiment_id))
        return answer

    def list(self, *, page_size: int = 100, sort: str | None = None, **filters: Unpack[Filters]) -> Iterator[Json]:
        """Experiments, newest first or sorted, page by page as they are asked for.

        `sort` is accuracy, stop, submitted, age, ended, state, progress, left, place or name, with a minus before it
        downwards; what has no such value comes last.

        Raises `TypeError` for an unknown filter, `ApiError` for an unknown sort.
        """
        asked = {"limit": page_size, **({} if sort is None else {"sort": sort}), **query(filters)}
        return map(_numbers, self._pages("/v1/experiments", asked))

    def _accepted(self, path: str, body: Any, idempotency_key: str | None) -> Json:
        key = str(uuid.uuid4()) if idempotency_key is None else checked_idempotency_key(idempotency_key)
        answer: Json = self._json("POST", path, body=body, headers={"Idempotency-Key": key})
        return answer


def _numbers(entry: Json) -> Json:
    return {**entry, "test_accuracy": decoded(entry["test_accuracy"])} if "test_accuracy" in entry else entry


def _document(spec: Spec) -> Any:
    return spec.model_dump(mode="json") if isinstance(spec, ExperimentSpec) else spec
