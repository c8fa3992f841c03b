"""Searches as they come in: checked as far as can be known now, with their first trials.

Invariant: what is stored of a search is complete, so that later trials need nothing of this request; each end of each
range is a valid spec. Optuna runs in the process aside alone.
"""

import functools
import importlib.util
import json

from api.aside.pool import Work
from api.deps import Admitted
from api.refusals import InvalidBody
from api.sweeping import completed_template, experiments_of
from bncore.spec import Fault
from bncore.spec.sweep import Point, SweepSpec, Trial, corner_points
from store.errors import QuotaExceeded
from store.sweeps import searching

_PROPOSE = "bncore.searching.proposing:propose"
_NO_OPTUNA = "Optuna is not installed where this server runs; install bnlab[search] there, or use axes"


async def searchable(asked: Admitted, spec: SweepSpec) -> SweepSpec:
    """The same with a complete template. Raises `InvalidBody`, `QuotaExceeded`."""
    whole, _ = await asked.service.bodies.run(functools.partial(_checked, asked, spec))
    return whole


def corners_of(asked: Admitted, spec: SweepSpec) -> tuple[SweepSpec, list[Point]]:
    """The same with a complete template, and experiments at the ends of the space, of one seed.

    Raises `InvalidBody`, `QuotaExceeded`.
    """
    return _checked(asked, spec)


async def first_trials(asked: Admitted, spec: SweepSpec) -> list[Trial]:
    """Those that are proposed before anything is known. Raises what the process aside does."""

    async def prepare() -> Work:
        return Work(searching.first(spec))

    made = await asked.service.aside.run(asked.request, asked.caller.owner, _PROPOSE, prepare)
    return [Trial(one["trial"], one["arm"], one["values"]) for one in json.loads(made)["proposals"]]


def _checked(asked: Admitted, spec: SweepSpec) -> tuple[SweepSpec, list[Point]]:
    search = spec.search
    assert search is not None
    if importlib.util.find_spec("optuna") is None:
        raise InvalidBody([Fault("/search", _NO_OPTUNA, "not_installed")])
    whole = completed_template(asked, spec)
    corners = experiments_of(asked, functools.partial(corner_points, whole), completes=False)
    for point in corners:
        faults = [Fault(f"/search{one.pointer}", one.detail, one.code) for one in search.unmeasured(point.spec)]
        if faults:
            raise InvalidBody(faults)
    at_once = min(search.at_once, search.trials) * (spec.points // search.trials) * len(spec.seed_list)
    most = asked.service.limits.queued_jobs
    if most is not None and at_once > most:
        raise QuotaExceeded("queued_jobs", most)
    return whole, corners
