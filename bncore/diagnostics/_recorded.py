"""How measurements of sites are put into a recording."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from bncore.diagnostics._probe import How
from bncore.recording import Recording, Site
from bncore.spec.catalog import members
from bncore.spec.diagnostics import DiagnosticModel, DiagnosticSpec

_FORETOLD = {
    member.model_fields["kind"].default: member.scalars
    for member in members(DiagnosticSpec)
    if issubclass(member, DiagnosticModel) and member.scalars
}
"""What a spec says that is found, by which a study may be asked for before anything runs."""


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
    assert set(scalars) == set(_FORETOLD.get(kind, scalars)), (
        f"{kind} finds {sorted(scalars)}, and its spec says not so"
    )
    return Recording(
        kind=kind,
        step=how.get("step", 0),
        arrays={name: np.asarray(array) for name, (array, _) in arrays.items()},
        axes={name: axes for name, (_, axes) in arrays.items()},
        units={name: given.get(name, "1") for name in (*arrays, *scalars)},
        sites=sites,
        scalars={name: float(value) for name, value in scalars.items()},
    )
