"""Experiments as wholes: submit, find, end.

A submit is never done twice: its Idempotency-Key is made before the first try, and every retry carries it.
"""

import uuid
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from bncore.spec import ExperimentSpec
from client.address import checked_idempotency_key
from client.calls import Calls, path_of
from client.errors import ApiError, Json

Spec = ExperimentSpec | Mapping[str, Any]


class ExperimentCalls(Calls):
    """`/v1/experiments` and one of them."""

    def validate(self, spec: Spec) -> Json:
        """The completed spec, its layers and parameter count. Nothing is stored. Raises `ApiError` with faults."""
        answer: Json = self._json("POST", "/v1/experiments:validate", body=_document(spec))
        return answer

    def submit(self, spec: Spec, *, idempotency_key: str | None = None) -> Json:
        """Queue an experiment and return it. Calling again submits again, unless with the same `idempotency_key`."""
        key = str(uuid.uuid4()) if idempotency_key is None else checked_idempotency_key(idempotency_key)
        headers = {"Idempotency-Key": key}
        answer: Json = self._json("POST", "/v1/experiments", body=_document(spec), headers=headers)
        return answer

    def get(self, experiment_id: str) -> Json:
        """One experiment with its complete spec."""
        answer: Json = self._json("GET", path_of(experiment_id))
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

    def cancel(self, experiment_id: str) -> Json:
        """Ask for the end. A running experiment saves a checkpoint first; repeating changes nothing."""
        answer: Json = self._json("POST", path_of(experiment_id, "cancel"))
        return answer

    def delete(self, experiment_id: str) -> None:
        """Delete an experiment that has ended, with its metrics and checkpoints."""
        path, tries = path_of(experiment_id), 0

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


def _document(spec: Spec) -> Any:
    return spec.model_dump(mode="json") if isinstance(spec, ExperimentSpec) else spec
