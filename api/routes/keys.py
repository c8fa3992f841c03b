"""API keys: whoever holds one makes, renews and ends such as it could be itself (`store.granting`)."""

from typing import Annotated, Any, Literal

import structlog
from fastapi import Depends, FastAPI
from pydantic import Field
from sqlalchemy.orm import Session
from starlette.responses import Response

from api.answers import answer
from api.bodies import body
from api.deps import Asked, KeyId
from api.lanes import reading, writing
from api.openapi import request_body
from api.parameters import Parameters, PlainText, Reading
from api.problems import declared
from api.routes.keyed import KeyedRoutes
from api.shown import Page
from api.shown.keys import ApiKey, NewApiKey
from bncore.spec.strict import SpecModel, Text
from store import granting, keys, owners
from store.errors import OwnerNotFound
from store.granting import Wanted
from store.keys import CreatedKey, KeyScope

_LOG = structlog.get_logger("api")
_LONGEST_OVERLAP_SECONDS = 30 * 86_400.0
_LONGEST_LIFE_SECONDS = 10 * 365 * 86_400.0


class KeyRequest(SpecModel):
    """A key to be made."""

    name: Annotated[Text, Field(min_length=1, max_length=200)] = Field(description="For people: who or what uses it.")
    scopes: list[Literal["read", "submit", "admin"]] = Field(
        min_length=1, max_length=8, description="None that the key which asks lacks; `submit` has `read` in it."
    )
    expires_in_seconds: float | None = Field(
        default=None, gt=0.0, le=_LONGEST_LIFE_SECONDS, description="At most until the key which asks expires."
    )
    owner: Annotated[Text, Field(min_length=1, max_length=200)] | None = Field(
        default=None, description="Id or name of whose it shall be, made when the name is new; needs `admin`."
    )


class RotateRequest(SpecModel):
    """How a key is replaced."""

    overlap_seconds: float = Field(
        default=0.0, ge=0.0, le=_LONGEST_OVERLAP_SECONDS, description="For so long the old one works on."
    )


class KeysQuery(Parameters):
    owner: Annotated[PlainText, Field(min_length=1, max_length=200)] | None = Field(
        default=None, description="Id or name. Without `admin` only your own."
    )
    limit: int = Field(default=20, ge=1, le=100)
    cursor: Annotated[str, Field(max_length=512)] | None = Field(default=None, description="Of the page before.")


def mount(app: FastAPI) -> None:
    """`/keys` and one of them."""
    routes = KeyedRoutes(app, "/v1/keys", "owners")
    routes.add("", list_keys, response_model=Page[ApiKey], responses=declared(404), summary="API keys")
    routes.add("/{key_id}", get_key, response_model=ApiKey, responses=declared(404), summary="One API key")
    routes.add(
        "",
        create_key,
        methods=["POST"],
        status_code=201,
        response_model=NewApiKey,
        responses={201: _MADE, **declared(404, 413, 415)},
        openapi_extra=request_body(KeyRequest),
        summary="Make an API key",
    )
    routes.add(
        "/{key_id}/rotate",
        rotate_key,
        methods=["POST"],
        status_code=201,
        response_model=NewApiKey,
        responses={201: _MADE, **declared(404, 409, 413, 415)},
        openapi_extra=request_body(RotateRequest, required=False),
        summary="Replace an API key",
    )
    routes.add(
        "/{key_id}", revoke_key, methods=["DELETE"], status_code=204, responses=declared(404), summary="End an API key"
    )


_MADE: dict[str, Any] = {
    "description": "It is made, and its secret is shown this once",
    "headers": {"Location": {"schema": {"type": "string"}, "description": "The key."}},
}


@reading
def list_keys(asked: Asked, query: Annotated[KeysQuery, Depends(Reading(KeysQuery))]) -> Response:
    """Your owner's keys, revoked and expired ones too, oldest first; with `admin` everybody's, or those of `owner`."""
    owner = asked.sees
    with asked.service.database.read() as session:
        if query.owner is not None:
            wanted = owners.resolve(session, query.owner)
            if owner not in (None, wanted):
                raise OwnerNotFound(query.owner)
            owner = wanted
        found = keys.page(session, owner=owner, cursor=query.cursor, limit=query.limit)
    shown = [ApiKey.of(row) for row in found.rows]
    return answer(Page[ApiKey](data=shown, has_more=found.has_more, next_cursor=found.next_cursor))


@reading
def get_key(key_id: KeyId, asked: Asked) -> Response:
    """What is known of it; never its secret."""
    with asked.service.database.read() as session:
        row = keys.get(session, key_id, owner=asked.sees)
    return answer(ApiKey.of(row))


@writing
def create_key(asked: Asked, wanted: Annotated[KeyRequest, Depends(body(KeyRequest))]) -> Response:
    """A key for your owner with scopes that yours has, and no longer life; with `admin` for any owner.

    There is no `Idempotency-Key` here: a secret is shown once. If the answer was lost, revoke what you find and repeat.
    """
    scopes = frozenset(map(KeyScope, wanted.scopes))
    grant = Wanted(wanted.name, scopes, wanted.expires_in_seconds, wanted.owner)
    with asked.service.database.write() as session:
        made = granting.grant(session, asked.caller, grant)
        return _shown(session, made, "key_created")


async def rotate_key(
    key_id: KeyId, asked: Asked, wanted: Annotated[RotateRequest, Depends(body(RotateRequest, may_be_empty=True))]
) -> Response:
    """A new key with its name, owner, scopes and expiry; the old one ends after the overlap, without one at once."""
    shown = await _rotate(asked=asked, key_id=key_id, overlap_seconds=wanted.overlap_seconds)
    asked.service.keyring.forget(key_id)
    return shown


async def revoke_key(key_id: KeyId, asked: Asked) -> Response:
    """It opens nothing any more, within seconds. Repeats change nothing. Needs the scopes that the key has."""
    await _revoke(asked=asked, key_id=key_id)
    asked.service.keyring.forget(key_id)
    _LOG.info("key_revoked", revoked=key_id)
    return Response(status_code=204)


@writing
def _rotate(asked: Asked, key_id: str, overlap_seconds: float) -> Response:
    with asked.service.database.write() as session:
        made = granting.rotate(session, asked.caller, key_id, overlap_seconds=overlap_seconds)
        return _shown(session, made, "key_rotated")


@writing
def _revoke(asked: Asked, key_id: str) -> None:
    with asked.service.database.write() as session:
        granting.revoke(session, asked.caller, key_id)


def _shown(session: Session, made: CreatedKey, event: str) -> Response:
    row = keys.get(session, made.id)
    _LOG.info(event, made=made.id, for_owner=row.owner)
    # no-store is what every answer says unless its route says otherwise; of this one it is a promise.
    headers = {"Location": f"/v1/keys/{made.id}", "Cache-Control": "no-store"}
    return answer(NewApiKey.made(row, made.secret), 201, headers)
