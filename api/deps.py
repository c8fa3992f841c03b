"""What routes ask for: the service's parts, the caller, ids and headers.

Invariant: nothing here takes a thread or a session: that is for the route, once, around its store call.
"""

import functools
from typing import Annotated

import structlog
from fastapi import Depends, Path, Request
from fastapi.openapi.models import HTTPBearer
from fastapi.security.base import SecurityBase

from api.errors import Forbidden, Unauthenticated
from api.headers import idempotency_key
from api.service import ApiService
from api.shown.waiting import Living
from store import granting
from store.keys import Authenticated, KeyScope


async def get_service(request: Request) -> ApiService:
    """The parts that `create_app` made."""
    service = request.app.state.service
    assert isinstance(service, ApiService)
    return service


class BearerKey(SecurityBase):
    """The caller's API key, if it is good for what is asked.

    Raises `Unauthenticated`, `Forbidden`, `TooManyRequests`. From here on every line of the log names key and owner.
    """

    def __init__(self) -> None:
        self.scheme_name = "bearer"
        self.model = HTTPBearer(description="An API key: `python -m store keys create`, or POST /v1/keys.")

    async def __call__(self, request: Request) -> Authenticated:
        service = await get_service(request)
        key = await _key_shown(request, service)
        structlog.contextvars.bind_contextvars(key_id=key.id, owner=key.owner)
        request.scope["state"]["limits"] = service.gate.admit(key.owner)
        scope = _scope_of(request)
        if not key.allows(scope):
            raise Forbidden(scope.value)
        return key


authenticate = BearerKey()

Service = Annotated[ApiService, Depends(get_service)]
Caller = Annotated[Authenticated, Depends(authenticate)]
IdempotencyKey = Annotated[str | None, Depends(idempotency_key)]
ExperimentId = Annotated[str, Path(pattern="^exp_[0-9a-f]{32}$", examples=["exp_0199f3a27f3e7c559d0e1b7a3c5d2e4f"])]
CheckpointId = Annotated[str, Path(pattern="^ckp_[0-9a-f]{32}$", examples=["ckp_0199f3a27f3e7c559d0e1b7a3c5d2e4f"])]
KeyId = Annotated[str, Path(pattern="^key_[0-9a-f]{32}$", examples=["key_0199f3a27f3e7c559d0e1b7a3c5d2e4f"])]

sees = granting.reach


async def living_lately(service: Service) -> Living:
    """Who was there a few moments ago."""
    return await service.readiness.lately()


async def living_now(service: Service) -> Living:
    """Who is there."""
    return await service.readiness.now()


LivingLately = Annotated[Living, Depends(living_lately)]
LivingNow = Annotated[Living, Depends(living_now)]


async def require_admin(caller: Caller) -> None:
    """Raises `Forbidden`."""
    if KeyScope.ADMIN not in caller.scopes:
        raise Forbidden(KeyScope.ADMIN.value)


async def _key_shown(request: Request, service: ApiService) -> Authenticated:
    scheme, _, secret = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not secret:
        raise Unauthenticated
    key = await service.keyring.find(secret.strip(), functools.partial(service.gate.require_patience, request))
    if key is None:
        service.gate.note_failure(request)
        raise Unauthenticated
    return key


def _scope_of(request: Request) -> KeyScope:
    """Looking needs `read`, and trying out what would be submitted is looking; everything else needs `submit`."""
    looks = request.method in ("GET", "HEAD") or request.url.path.endswith(":validate")
    return KeyScope.READ if looks else KeyScope.SUBMIT
