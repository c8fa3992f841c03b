"""What diagnostics of an experiment recorded. Arrays are arrays, and numbers numbers, NaN among them."""

from typing import Any

import numpy as np

from client.calls import Calls, path_of
from client.errors import Json
from client.numbers import decoded

MOST_VALUES = 1_000_000
"""What one request may ask for, of each array."""


class DiagnosticCalls(Calls):
    """What lies under the diagnostics of one experiment."""

    def diagnostics(self, experiment_id: str) -> list[Json]:
        """Which there are: `kind`, `steps`, and the `files` of each."""
        found: list[Json] = self._json("GET", path_of(experiment_id, "diagnostics"))["data"]
        return found

    def diagnostic(
        self, experiment_id: str, kind: str, step: int | None = None, *, max_values: int = MOST_VALUES
    ) -> Json:
        """What one found after `step` steps, or last: `sites`, `scalars`, `units`, `notes`, and `arrays` by name.

        Of each array `values` is a numpy array along `axes`; an axis of more than `max_values` numbers is thinned, and
        `kept` says to which places. Raises `ApiError` where it was not measured; it names steps that were.
        """
        params: dict[str, Any] = {"max_values": max_values} | ({} if step is None else {"step": step})
        found = self._json("GET", path_of(experiment_id, "diagnostics", kind), params=params)
        arrays = {name: _array(array) for name, array in found["arrays"].items()}
        return {**found, "scalars": decoded(found["scalars"]), "arrays": arrays}


def _array(shown: Json) -> Json:
    return {**shown, "values": np.array(decoded(shown["values"]))}
