"""What routes ask for: the service's parts, the caller, ids and headers.

Invariant: nothing here takes a thread or a session: that is for the route, once, around its store call.
"""

from typing import Annotated

from fastapi import Depends, Path, Request
from fastapi.openapi.models import HTTPBearer
from fastapi.security.base import SecurityBase

from api.errors import Forbidden, Unauthenticated
from api.headers import idempotency_key
from api.service import ApiService
from store.keys import Authenticated, KeyScope


async def get_service(request: Request) -> ApiService:
    """The parts that `create_app` made."""
    service = request.app.state.service
    assert isinstance(service, ApiService)
    return service


class BearerKey(SecurityBase):
    """The caller's API key, if it is good for what is asked. Raises `Unauthenticated`, `Forbidden`."""

    def __init__(self) -> None:
        self.scheme_name = "bearer"
        self.model = HTTPBearer(description="An API key, made with `python -m store keys create`.")

    async def __call__(self, request: Request) -> Authenticated:
        scheme, _, secret = request.headers.get("authorization", "").partition(" ")
        service = await get_service(request)
        key = await service.keyring.find(secret.strip()) if scheme.lower() == "bearer" and secret else None
        if key is None:
            raise Unauthenticated
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


def sees(caller: Authenticated) -> str | None:
    """Whose jobs the caller may see and change: the owner's, or everybody's (None)."""
    return None if KeyScope.ADMIN in caller.scopes else caller.owner


def _scope_of(request: Request) -> KeyScope:
    """Looking needs `read`, and trying out what would be submitted is looking; everything else needs `submit`."""
    looks = request.method in ("GET", "HEAD") or request.url.path.endswith(":validate")
    return KeyScope.READ if looks else KeyScope.SUBMIT
