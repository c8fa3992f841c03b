"""`python -m store`: migrate the database, look after API keys and owners, and ask whether a process lives.

Exit codes: 0 done, 1 refused (for example an unknown key) or not alive, 2 wrong usage.
"""

import argparse
import json
import socket
import sys
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy.exc import DBAPIError

from store import keys, migrate, owners, processes
from store.database import Database
from store.errors import EncodingUnfit, StoreError
from store.keys import CreatedKey, KeyScope
from store.settings import StoreSettings, from_environment
from store.unmigrated import UNMIGRATED, is_unmigrated

_DAY_SECONDS = 24 * 3600.0
Command = Callable[[Database, argparse.Namespace], int | None]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit code."""
    options = _parser().parse_args(arguments)
    database = Database(from_environment(StoreSettings).database_url.get_secret_value())
    try:
        return options.run(database, options) or 0
    except StoreError as error:
        print(f"{error} ({error.code})", file=sys.stderr)
        return 1
    except EncodingUnfit as error:
        print(error, file=sys.stderr)
        return 1
    except DBAPIError as error:
        if not is_unmigrated(error):
            raise
        print(UNMIGRATED, file=sys.stderr)
        return 1
    finally:
        database.dispose()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m store", description="BNLab's database: BNLAB_DATABASE_URL.")
    commands = parser.add_subparsers(dest="command", required=True)
    what = "bring the schema up to date, and create the key in BNLAB_BOOTSTRAP_API_KEY if it is absent"
    _add(commands, "migrate", _migrate, what)
    heartbeat = _add(commands, "heartbeat", _lives, "for health checks: exit code 0 if the process lives, 1 if not")
    heartbeat.add_argument("--kind", required=True, choices=["relay", "worker"])
    heartbeat.add_argument("--host", default=socket.gethostname(), help="where it runs; this host if not given")
    heartbeat.add_argument("--within-seconds", type=float, default=60.0, help="older heartbeats do not count")
    _add_keys(commands)
    of_owners = commands.add_parser("owners", help="see who has jobs and keys").add_subparsers(
        dest="action", required=True
    )
    listing = _add(of_owners, "list", _list_owners, "show all owners, and how many bytes of checkpoints each has")
    listing.add_argument("--json", action="store_true", help="as JSON")
    return parser


def _add_keys(commands: Any) -> None:
    actions = commands.add_parser("keys", help="create, list, rotate and revoke API keys").add_subparsers(
        dest="action", required=True
    )
    create = _add(actions, "create", _create, "make a key and print it, once")
    create.add_argument("--name", required=True, help="for people: who or what uses the key")
    create.add_argument("--owner", help="whose it is, by name; made if there is none of that name")
    known = ",".join(KeyScope)
    create.add_argument("--scopes", type=_scopes, default=(KeyScope.READ,), help=f"of {known}; read if not given")
    create.add_argument("--expires-in-days", type=float, help="never, if not given")
    listing = _add(actions, "list", _list_keys, "show all keys, without their secrets")
    listing.add_argument("--json", action="store_true", help="as JSON")
    rotate = _add(actions, "rotate", _rotate, "make a key that takes another's place, and print it, once")
    rotate.add_argument("id", help="the id that `list` shows")
    rotate.add_argument("--overlap-seconds", type=float, default=0.0, help="for how long the old one still opens")
    _add(actions, "revoke", _revoke, "make a key useless").add_argument("id", help="the id that `list` shows")


def _add(commands: Any, name: str, run: Command, what: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(name, help=what)
    parser.set_defaults(run=run)
    return parser


def _scopes(text: str) -> list[KeyScope]:
    try:
        return [KeyScope(word) for word in text.split(",")]
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{error}; there are {', '.join(KeyScope)}") from None


def _migrate(database: Database, _options: argparse.Namespace) -> None:
    settings = from_environment(StoreSettings)
    migrate.upgrade(settings.database_url.get_secret_value(), wait_seconds=settings.migrate_wait_seconds)
    secret = settings.bootstrap_api_key
    if secret is not None and secret.get_secret_value():
        with database.write() as session:
            keys.ensure(session, "bootstrap", secret.get_secret_value())


def _lives(database: Database, options: argparse.Namespace) -> int:
    with database.read() as session:
        found = processes.live(session, kind=options.kind, within_seconds=options.within_seconds)
    return 0 if any(process.host == options.host for process in found) else 1


def _create(database: Database, options: argparse.Namespace) -> None:
    days = options.expires_in_days
    with database.write() as session:
        owner = None if options.owner is None else owners.create(session, options.owner)
        lifetime = None if days is None else days * _DAY_SECONDS
        key = keys.create(session, options.name, owner=owner, scopes=options.scopes, expires_in_seconds=lifetime)
    _show(key)


def _rotate(database: Database, options: argparse.Namespace) -> None:
    with database.write() as session:
        key = keys.rotate(session, options.id, overlap_seconds=options.overlap_seconds)
    _show(key)


def _revoke(database: Database, options: argparse.Namespace) -> None:
    with database.write() as session:
        keys.revoke(session, options.id)


def _list_keys(database: Database, options: argparse.Namespace) -> None:
    with database.read() as session:
        names = {owner.id: owner.name for owner in owners.list_all(session)}
        rows = [
            {
                "id": key.id,
                "name": key.name,
                "owner": names.get(key.owner, key.owner),
                "scopes": ",".join(key.scopes),
                "prefix": key.prefix,
                "created_at": _utc(key.created_at),
                "expires_at": _utc(key.expires_at),
                "last_used_at": _utc(key.last_used_at),
                "revoked_at": _utc(key.revoked_at),
            }
            for key in keys.list_all(session)
        ]
    _print(rows, as_json=options.json)


def _list_owners(database: Database, options: argparse.Namespace) -> None:
    with database.read() as session:
        rows = [
            {
                "id": owner.id,
                "name": owner.name,
                "stored_bytes": owner.stored_bytes,
                "created_at": _utc(owner.created_at),
            }
            for owner in owners.list_all(session)
        ]
    _print(rows, as_json=options.json)


def _show(key: CreatedKey) -> None:
    print(key.secret)
    print(f"{key.id} is its id. The key itself is not shown again.", file=sys.stderr)


def _print(rows: Sequence[dict[str, Any]], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(rows, indent=2))
        return
    if rows:
        _print_table([list(rows[0]), *([str("-" if cell is None else cell) for cell in row.values()] for row in rows)])


def _print_table(lines: Iterable[Sequence[str]]) -> None:
    lines = list(lines)
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def _utc(seconds: float | None) -> str | None:
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


if __name__ == "__main__":
    sys.exit(main())
