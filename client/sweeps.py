"""Sweeps: many experiments of one template, under one id."""

import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from bncore.spec.sweep import SweepSpec
from client.address import checked_idempotency_key
from client.calls import Calls, checked_id, several
from client.errors import Json
from client.numbers import decoded

SUBMIT_SECONDS = 60.0
"""Ten thousand experiments are some seconds of work."""


class SweepCalls(Calls):
    """`/v1/sweeps` and one of them."""

    def submit_sweep(self, sweep: SweepSpec | Mapping[str, Any], *, idempotency_key: str | None = None) -> Json:
        """Queue all experiments of a sweep and return it; its document is described in `docs/sweeps.md`."""
        document = sweep.model_dump(mode="json") if isinstance(sweep, SweepSpec) else dict(sweep)
        return self._sweep_accepted("/v1/sweeps", document, idempotency_key)

    def extend_sweep(self, sweep_id: str, seeds: int | Iterable[int], *, idempotency_key: str | None = None) -> Json:
        """Add seeds to all points of a sweep: so many more, or these."""
        wanted = seeds if isinstance(seeds, int) else list(seeds)
        return self._sweep_accepted(_path(sweep_id, "extend"), {"seeds": wanted}, idempotency_key)

    def sweep(self, sweep_id: str) -> Json:
        """State and progress of a sweep, and what was asked."""
        answer: Json = self._json("GET", _path(sweep_id))
        return answer

    def sweeps(self, *, page_size: int = 100) -> Iterator[Json]:
        """Sweeps, newest first, page by page as they are asked for."""
        return self._pages("/v1/sweeps", {"limit": page_size})

    def sweep_experiments(self, sweep_id: str, *, page_size: int = 100) -> Iterator[Json]:
        """The experiments of a sweep in its order, each with `values` of the axes, `arm` and `seed`."""
        return self._pages(_path(sweep_id, "experiments"), {"limit": page_size})

    def sweep_results(
        self, sweep_id: str, measures: str | Iterable[str] = (), *, confidence: float | None = None
    ) -> Json:
        """A table of a sweep: `points`, each with mean, sd and counts of its `measures` over seeds.

        Measures are those of `compare`. With a `confidence` such as 0.95 each has an `interval` of its mean.
        """
        params: dict[str, Any] = {"measures": several(measures)}
        params |= {} if confidence is None else {"confidence": confidence}
        answer: Json = self._json("GET", _path(sweep_id, "results"), params=params)
        points = [{**point, "measures": decoded(point["measures"])} for point in answer["points"]]
        return {**answer, "points": points}

    def wait_sweep(
        self,
        sweep_id: str,
        timeout_seconds: float | None = None,
        on_progress: Callable[[Json], object] | None = None,
    ) -> Json:
        """The sweep once all its experiments have ended, however they ended. Raises `WaitTimeout`."""
        return self._looked_at(_path(sweep_id), sweep_id, timeout_seconds, on_progress)

    def cancel_sweep(self, sweep_id: str) -> Json:
        """End all of it that has not ended; running ones save a checkpoint first."""
        return self._ask_sweep(sweep_id, "cancel")

    def pause_sweep(self, sweep_id: str) -> Json:
        """Let all of it rest that waits or runs, until `resume_sweep`."""
        return self._ask_sweep(sweep_id, "pause")

    def resume_sweep(self, sweep_id: str) -> Json:
        """Queue again what rests of it."""
        return self._ask_sweep(sweep_id, "resume")

    def retry_sweep(self, sweep_id: str, *, cancelled: bool = False) -> Json:
        """Queue again what failed of it, and what was cancelled where that is asked."""
        return self._ask_sweep(sweep_id, "retry", {"cancelled": "true"} if cancelled else None)

    def delete_sweep(self, sweep_id: str) -> None:
        """Delete a sweep of which all has ended, with all its experiments."""
        self._transport.do("DELETE", _path(sweep_id), lambda refusal: refusal.status == 404)

    def _ask_sweep(self, sweep_id: str, action: str, params: Mapping[str, Any] | None = None) -> Json:
        answer: Json = self._json("POST", _path(sweep_id, action), params=params)
        return answer

    def _sweep_accepted(self, path: str, body: Any, idempotency_key: str | None) -> Json:
        key = str(uuid.uuid4()) if idempotency_key is None else checked_idempotency_key(idempotency_key)
        headers = {"Idempotency-Key": key}
        answer: Json = self._json("POST", path, body=body, headers=headers, timeout_seconds=SUBMIT_SECONDS)
        return answer


def _path(sweep_id: str, *parts: str) -> str:
    return "/".join(("/v1/sweeps", *map(checked_id, (sweep_id, *parts))))
