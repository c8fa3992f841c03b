"""What routes ask for: the service's parts, a session, the owner of the key.

Invariant: a session ends, and a writing one commits, before the answer is sent (`scope="function"`): a client never
holds a 202 for a row that is not there, and no stream holds a connection.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Path
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from sqlalchemy.orm import Session
from starlette.requests import Request

from api.changes import ChangeWatch
from api.errors import Unauthenticated
from api.headers import idempotency_key
from api.settings import ApiSettings
from store import keys
from store.database import Database
from store.keys import Authenticated


@dataclass(frozen=True)
class ApiService:
    """What lives as long as the process; `create_app` puts it into `app.state.service`."""

    settings: ApiSettings
    database: Database
    changes: ChangeWatch


def get_service(request: Request) -> ApiService:
    """The parts that `create_app` made."""
    service = request.app.state.service
    assert isinstance(service, ApiService)
    return service


Service = Annotated[ApiService, Depends(get_service)]


def get_reading_session(service: Service) -> Iterator[Session]:
    """A snapshot."""
    with service.database.read() as session:
        yield session


def get_writing_session(service: Service) -> Iterator[Session]:
    """A transaction: committed when the route returns, rolled back when it raises."""
    with service.database.write() as session:
        yield session


_bearer = HTTPBearer(
    auto_error=False, scheme_name="bearer", description="An API key, made with `python -m store keys create`."
)


def authenticate(
    service: Service, credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]
) -> Authenticated:
    """The caller's API key, and whose it is. Raises `Unauthenticated`."""
    if credentials is None:
        raise Unauthenticated
    with service.database.read() as session:
        key = keys.authenticate(session, credentials.credentials)
    if key is None:
        raise Unauthenticated
    return key


Caller = Annotated[Authenticated, Depends(authenticate)]
ReadSession = Annotated[Session, Depends(get_reading_session, scope="function")]
WriteSession = Annotated[Session, Depends(get_writing_session, scope="function")]
IdempotencyKey = Annotated[str | None, Depends(idempotency_key)]
ExperimentId = Annotated[str, Path(pattern="^exp_[0-9a-f]{32}$", examples=["exp_0199f3a27f3e7c559d0e1b7a3c5d2e4f"])]
CheckpointId = Annotated[str, Path(pattern="^ckp_[0-9a-f]{32}$", examples=["ckp_0199f3a27f3e7c559d0e1b7a3c5d2e4f"])]
