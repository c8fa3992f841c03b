"""What routes ask for: the service's parts, the caller, ids and headers.

Invariant: nothing here takes a thread or a session: that is for the route, once, around its store call. And a route
depends on one thing, `asked`: each dependency costs a request some hundredths of a millisecond, also when it is solved.
"""

import functools
import inspect
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated, Any

import structlog
from fastapi import Depends, Path, Request
from fastapi.openapi.models import HTTPBearer
from fastapi.routing import APIRoute
from fastapi.security.base import SecurityBase

from api.parameters import NO_PARAMETERS, Reading
from api.readiness import Readiness
from api.refusals import Forbidden, Unauthenticated
from api.service import ApiService
from api.shown.waiting import Living
from store import granting
from store.keys import Authenticated, KeyScope


@dataclass(frozen=True, slots=True)
class Admitted:
    """A request whose key is good for it."""

    request: Request
    service: ApiService
    caller: Authenticated

    @property
    def sees(self) -> str | None:
        """Whose things the caller may know of; None: everybody's."""
        return granting.reach(self.caller)


def service_of(request: Request) -> ApiService:
    """The parts that `create_app` made."""
    service = request.app.state.service
    assert isinstance(service, ApiService)
    return service


class BearerKey(SecurityBase):
    """The caller's API key, if it is good for what is asked; then any query that the route does not read is refused.

    Raises `Unauthenticated`, `Forbidden`, `TooManyRequests`, `RequestValidationError`. From here on every line of the
    log names key and owner.
    """

    def __init__(self) -> None:
        self.scheme_name = "bearer"
        self.model = HTTPBearer(description="An API key: `python -m store keys create`, or POST /v1/keys.")

    async def __call__(self, request: Request) -> Admitted:
        service = service_of(request)
        key = await _key_shown(request, service)
        structlog.contextvars.bind_contextvars(key_id=key.id, owner=key.owner)
        request.scope["state"]["limits"] = service.gate.admit(key.owner)
        scope = _scope_of(request)
        if not key.allows(scope):
            raise Forbidden(scope.value)
        if request.scope["query_string"] and not _reads_query(request.scope["route"]):
            await NO_PARAMETERS(request)
        admitted = Admitted(request, service, key)
        # For a body that is complete only with what its sender has here.
        request.scope["state"]["asked"] = admitted
        return admitted


authenticate = BearerKey()

_LOOKS = (":validate", "/v1/comparisons", "/v1/figures")
"""Paths whose POST changes nothing."""

Asked = Annotated[Admitted, Depends(authenticate)]
ExperimentId = Annotated[str, Path(pattern="^exp_[0-9a-f]{32}$", examples=["exp_0199f3a27f3e7c559d0e1b7a3c5d2e4f"])]
DatasetId = Annotated[str, Path(pattern="^dat_[0-9a-f]{32}$", examples=["dat_0199f3a27f3e7c559d0e1b7a3c5d2e4f"])]
FileId = Annotated[str, Path(pattern="^fil_[0-9a-f]{32}$", examples=["fil_0199f3a27f3e7c559d0e1b7a3c5d2e4f"])]
CheckpointId = Annotated[str, Path(pattern="^ckp_[0-9a-f]{32}$", examples=["ckp_0199f3a27f3e7c559d0e1b7a3c5d2e4f"])]
EvaluationId = Annotated[str, Path(pattern="^evl_[0-9a-f]{32}$", examples=["evl_0199f3a27f3e7c559d0e1b7a3c5d2e4f"])]
SweepId = Annotated[str, Path(pattern="^swp_[0-9a-f]{32}$", examples=["swp_0199f3a27f3e7c559d0e1b7a3c5d2e4f"])]
StudyId = Annotated[str, Path(pattern="^stu_[0-9a-f]{32}$", examples=["stu_0199f3a27f3e7c559d0e1b7a3c5d2e4f"])]
KeyId = Annotated[str, Path(pattern="^key_[0-9a-f]{32}$", examples=["key_0199f3a27f3e7c559d0e1b7a3c5d2e4f"])]


def living_lately(route: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    """Give a route `living`, who was there a few moments ago, once all else that it asks for is right."""
    return _told(route, Readiness.lately)


def living_now(route: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    """The same with who is there."""
    return _told(route, Readiness.now)


async def require_admin(asked: Asked) -> None:
    """Raises `Forbidden`."""
    if KeyScope.ADMIN not in asked.caller.scopes:
        raise Forbidden(KeyScope.ADMIN.value)


def _told(
    route: Callable[..., Awaitable[Any]], living: Callable[[Readiness], Awaitable[Living]]
) -> Callable[..., Awaitable[Any]]:
    @functools.wraps(route)
    async def told(*, asked: Admitted, **others: Any) -> Any:
        return await route(asked=asked, living=await living(asked.service.readiness), **others)

    # What the framework reads: it would take `living` for a parameter of the request.
    signature = inspect.signature(route)
    others = [parameter for name, parameter in signature.parameters.items() if name != "living"]
    setattr(told, "__signature__", signature.replace(parameters=others))  # noqa: B010  (mypy refuses the assignment)
    return told


async def _key_shown(request: Request, service: ApiService) -> Authenticated:
    scheme, _, secret = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not secret:
        raise Unauthenticated
    key = await service.keyring.find(secret.strip(), functools.partial(service.gate.require_patience, request))
    if key is None:
        service.gate.note_failure(request)
        raise Unauthenticated
    return key


def _reads_query(route: APIRoute) -> bool:
    return any(isinstance(dependency.call, Reading) for dependency in route.dependant.dependencies)


def _scope_of(request: Request) -> KeyScope:
    """Looking needs `read`, also where what is looked for takes a body to say; everything else needs `submit`."""
    looks = request.method in ("GET", "HEAD") or request.url.path.endswith(_LOOKS)
    return KeyScope.READ if looks else KeyScope.SUBMIT
