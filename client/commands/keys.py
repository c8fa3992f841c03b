"""`bnlab keys`: what opens the service, and for whom."""

from datetime import UTC, datetime
from typing import Annotated

import typer

from client.commands.connection import AsJson, Url, connect
from client.commands.naming import only
from client.commands.outcome import reported
from client.commands.output import emit, inline, minute, show, table, tell
from client.errors import Json
from client.http import Client
from client.printable import one_line

DAY_SECONDS = 86_400.0

KeyOf = Annotated[
    str,
    typer.Argument(help="A key: its id, the beginning of that, or its name.", metavar="KEY", show_default=False),
]
Scopes = Annotated[
    list[str] | None,
    typer.Option(
        "--scope", help="read, submit (with read in it) or admin; repeatable. Default: submit.", show_default=False
    ),
]
OfOwner = Annotated[
    str | None, typer.Option("--owner", help="Somebody's, by id or name; takes the scope admin.", show_default=False)
]


@reported
def list_keys(owner: OfOwner = None, url: Url = None, as_json: AsJson = False) -> None:
    """List API keys, those that have ended too; never their secrets.

    Example: bnlab keys list
    """
    with connect(url) as client:
        found = list(client.list_keys(owner=owner))
    if as_json:
        emit(found)
        return
    rows = [
        (
            each["id"],
            each["name"],
            each["owner"],
            ", ".join(map(str, each["scopes"])),
            _day(each.get("last_used_at")),
            _day(each.get("expires_at")),
            _day(each.get("revoked_at")),
        )
        for each in found
    ]
    show(table(("id", "name", "owner", "scopes", "last used (UTC)", "expires", "revoked"), rows))


@reported
def create_key(
    name: Annotated[str, typer.Argument(help="For people: who or what uses it.", show_default=False)],
    scopes: Scopes = None,
    expires_days: Annotated[
        float | None, typer.Option("--expires-days", min=0.0, help="It opens nothing after that.", show_default=False)
    ] = None,
    owner: OfOwner = None,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Make an API key. Its secret is all there is on standard output, this once.

    If no answer comes, it may have been made all the same: look at `bnlab keys list`.

    Example: bnlab keys create dashboard --scope read --expires-days 30
    """
    with connect(url) as client:
        seconds = None if expires_days is None else expires_days * DAY_SECONDS
        made = client.create_key(name, scopes=scopes or ("submit",), expires_in_seconds=seconds, owner=owner)
    _show_secret(made, as_json)


@reported
def rotate_key(
    key: KeyOf,
    overlap_hours: Annotated[float, typer.Option("--overlap-hours", min=0.0, help="For so long both work.")] = 0.0,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Replace an API key by a new one of the same kind, whose secret is all there is on standard output, this once.

    Example: bnlab keys rotate dashboard --overlap-hours 24
    """
    with connect(url) as client:
        made = client.rotate_key(_id_of(client, key), overlap_seconds=overlap_hours * 3600.0)
    _show_secret(made, as_json)


@reported
def revoke_key(key: KeyOf, url: Url = None, as_json: AsJson = False) -> None:
    """End an API key.

    Example: bnlab keys revoke dashboard
    """
    with connect(url) as client:
        key_id = _id_of(client, key)
        client.revoke_key(key_id)
    if as_json:
        emit({"id": key_id, "revoked": True})
    else:
        show(f"{key_id} revoked")


def _show_secret(made: Json, as_json: bool) -> None:
    if as_json:
        emit(made)
        return
    tell(f"{one_line(str(made['id']))} ({one_line(str(made['name']))}); its secret is not shown again:")
    show(inline(made["secret"]), soft_wrap=True)


def _id_of(client: Client, wanted: str) -> str:
    meant = [key for key in client.list_keys() if key["name"] == wanted or str(key["id"]).startswith(wanted)]
    exact = [key for key in meant if key["id"] == wanted]
    return only("key", wanted, exact or filter(_lives, meant), ("id", "name"))


def _lives(key: Json) -> bool:
    # Times of the API are all in UTC and of one form, so that they compare as text.
    expires_at = key.get("expires_at")
    return not key.get("revoked_at") and not (expires_at and expires_at <= datetime.now(UTC).isoformat())


def _day(moment: str | None) -> str | None:
    return moment and minute(moment)
