"""Evaluations: a checkpoint of an experiment measured on data. Numbers are numbers, NaN among them."""

import uuid
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from client.address import checked_idempotency_key
from client.calls import Calls, is_terminal, path_of
from client.errors import ApiError, Json
from client.numbers import decoded


class EvaluationCalls(Calls):
    """`/v1/evaluations`, and those under an experiment."""

    def evaluate(
        self,
        experiment_id: str,
        data: Mapping[str, Any],
        statistics: str | Mapping[str, Any] = "source",
        *,
        checkpoint: str = "best",
        idempotency_key: str | None = None,
        **others: Any,
    ) -> Json:
        """Queue an evaluation of a checkpoint on `data`, with these statistics, and return it.

        `others` are further fields of an evaluation: `part`, `batch_size`, `resources`. Raises `ApiError` with faults.
        """
        asked = {"data": dict(data), "statistics": statistics, "checkpoint": checkpoint, **others}
        key = str(uuid.uuid4()) if idempotency_key is None else checked_idempotency_key(idempotency_key)
        headers = {"Idempotency-Key": key}
        return _shown(self._json("POST", path_of(experiment_id, "evaluations"), body=asked, headers=headers))

    def evaluation(self, evaluation_id: str) -> Json:
        """One evaluation as it is now; `result` once it has succeeded."""
        return _shown(self._json("GET", path_of(evaluation_id)))

    def evaluations(self, experiment_id: str | None = None, *, page_size: int = 100) -> Iterator[Json]:
        """Those of an experiment, or all, newest first."""
        path = "/v1/evaluations" if experiment_id is None else path_of(experiment_id, "evaluations")
        yield from map(_shown, self._pages(path, {"limit": page_size}))

    def wait_evaluation(self, evaluation_id: str, timeout_seconds: float | None = None) -> Json:
        """The evaluation once it has ended, however it ended. Raises `WaitTimeout`."""
        return self._ended(path_of(evaluation_id), evaluation_id, timeout_seconds, _shown, None)

    def cancel_evaluation(self, evaluation_id: str) -> Json:
        """Ask for the end; repeating changes nothing."""
        return _shown(self._json("POST", path_of(evaluation_id, "cancel")))

    def retry_evaluation(self, evaluation_id: str) -> Json:
        """Queue an evaluation that failed or was cancelled again."""

        def was_queued(refusal: ApiError) -> bool:
            return refusal.status == 409 and "state" in refusal.problem and not is_terminal(refusal.problem)

        self._transport.do("POST", path_of(evaluation_id, "retry"), was_queued)
        return self.evaluation(evaluation_id)

    def delete_evaluation(self, evaluation_id: str) -> None:
        """Delete an evaluation that has ended."""
        self._transport.do("DELETE", path_of(evaluation_id), lambda refusal: refusal.status == 404)

    def predict(self, experiment_id: str, inputs: Sequence[Any], *, checkpoint: str = "best") -> Json:
        """Probabilities and classes (of a regression, numbers) for a few inputs, nested lists each, from a worker."""
        asked = {"inputs": list(inputs), "checkpoint": checkpoint}
        return dict(decoded(self._json("POST", path_of(experiment_id, "predictions"), body=asked)))


def _shown(answer: Json) -> Json:
    return {**answer, "result": decoded(answer.get("result"))}
