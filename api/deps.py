"""What routes ask for: the service's parts, the caller, ids and headers.

Invariant: nothing here takes a thread or a session: that is for the route, once, around its store call.
"""

from typing import Annotated

from fastapi import Depends, Path, Request
from fastapi.openapi.models import HTTPBearer
from fastapi.security.base import SecurityBase

from api.errors import Unauthenticated
from api.headers import idempotency_key
from api.service import ApiService


async def get_service(request: Request) -> ApiService:
    """The parts that `create_app` made."""
    service = request.app.state.service
    assert isinstance(service, ApiService)
    return service


class BearerKey(SecurityBase):
    """The id of the caller's API key, who is the owner of what it submits. Raises `Unauthenticated`."""

    def __init__(self) -> None:
        self.scheme_name = "bearer"
        self.model = HTTPBearer(description="An API key, made with `python -m store keys create`.")

    async def __call__(self, request: Request) -> str:
        scheme, _, secret = request.headers.get("authorization", "").partition(" ")
        service = await get_service(request)
        key = await service.keyring.find(secret.strip()) if scheme.lower() == "bearer" and secret else None
        if key is None:
            raise Unauthenticated
        return key.id


authenticate = BearerKey()

Service = Annotated[ApiService, Depends(get_service)]
Owner = Annotated[str, Depends(authenticate)]
IdempotencyKey = Annotated[str | None, Depends(idempotency_key)]
ExperimentId = Annotated[str, Path(pattern="^exp_[0-9a-f]{32}$", examples=["exp_0199f3a27f3e7c559d0e1b7a3c5d2e4f"])]
CheckpointId = Annotated[str, Path(pattern="^ckp_[0-9a-f]{32}$", examples=["ckp_0199f3a27f3e7c559d0e1b7a3c5d2e4f"])]
