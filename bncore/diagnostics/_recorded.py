"""How measurements of sites are put into a recording."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from bncore.diagnostics._probe import How
from bncore.recording import Recording, Site


def recorded(
    kind: str,
    how: How,
    arrays: Mapping[str, tuple[Any, tuple[str, ...]]],
    *,
    sites: tuple[Site, ...] = (),
    scalars: Mapping[str, float] | None = None,
    units: Mapping[str, str] | None = None,
) -> Recording:
    """A recording of arrays with their axes; what has no unit of its own is a bare number."""
    given, scalars = units or {}, scalars or {}
    return Recording(
        kind=kind,
        step=how.get("step", 0),
        arrays={name: np.asarray(array) for name, (array, _) in arrays.items()},
        axes={name: axes for name, (_, axes) in arrays.items()},
        units={name: given.get(name, "1") for name in (*arrays, *scalars)},
        sites=sites,
        scalars={name: float(value) for name, value in scalars.items()},
    )
