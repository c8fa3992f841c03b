"""What a sweep would come to: how many experiments, at which cost, with what said of them."""

import functools
from typing import Annotated

from fastapi import Depends, FastAPI
from starlette.responses import Response

from api.answers import answer
from api.bodies import body
from api.deps import Admitted, Asked, living_lately
from api.openapi import model_body
from api.problems import declared
from api.routes.keyed import KeyedRoutes
from api.searching import corners_of
from api.shown.sweep_plans import SweepValidated
from api.shown.waiting import Living
from api.sweeping import experiments_of
from bncore.spec.sweep import SweepSpec, expand


def mount(app: FastAPI) -> None:
    """Beside `/sweeps`."""
    routes = KeyedRoutes(app, "/v1", "sweeps")
    routes.add(
        "/sweeps:validate",
        validate_sweep,
        methods=["POST"],
        response_model=SweepValidated,
        responses=declared(413, 415),
        openapi_extra={"requestBody": model_body(SweepSpec)},
        summary="What a sweep amounts to; stores nothing",
    )


@living_lately
async def validate_sweep(
    asked: Asked, spec: Annotated[SweepSpec, Depends(body(SweepSpec))], living: Living
) -> Response:
    """How many experiments it would be, their steps in all, what may not be meant so, and the first and the last of
    them; of a search, what it costs between its cheapest and its dearest end. Refused is what a submission would be
    refused for."""
    return await asked.service.bodies.run(functools.partial(_validated, asked, spec, living))


def _validated(asked: Admitted, spec: SweepSpec, living: Living) -> Response:
    if spec.search is not None:
        return answer(SweepValidated.of(*corners_of(asked, spec), living))
    return answer(SweepValidated.of(spec, experiments_of(asked, functools.partial(expand, spec)), living))
