"""API keys, without their secrets."""

from datetime import datetime

from pydantic import Field

from api.shown import Shown, maybe_utc, utc
from store import tables


class ApiKey(Shown):
    """What is known of a key; its secret is not."""

    id: str
    owner: str = Field(description="The id of whose key it is.")
    name: str
    prefix: str = Field(description="How its secret begins.")
    scopes: list[str] = Field(description="Of read, submit, admin.")
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None = Field(description="To a minute or so.")
    revoked_at: datetime | None

    @classmethod
    def of(cls, row: tables.ApiKey) -> "ApiKey":
        return cls(**_facts(row))


class NewApiKey(ApiKey):
    """A key that was just made."""

    secret: str = Field(description="To be sent as `Authorization: Bearer <secret>`. It is not shown again.")

    @classmethod
    def made(cls, row: tables.ApiKey, secret: str) -> "NewApiKey":
        return cls(**_facts(row), secret=secret)


def _facts(row: tables.ApiKey) -> dict[str, object]:
    return {
        "id": row.id,
        "owner": row.owner,
        "name": row.name,
        "prefix": row.prefix,
        "scopes": row.scopes,
        "created_at": utc(row.created_at),
        "expires_at": maybe_utc(row.expires_at),
        "last_used_at": maybe_utc(row.last_used_at),
        "revoked_at": maybe_utc(row.revoked_at),
    }
