"""`python -m store`: migrate the database, look after API keys, and ask whether a process lives.

Exit codes: 0 done, 1 refused (for example an unknown key) or not alive, 2 wrong usage.
"""

import argparse
import json
import socket
import sys
from collections.abc import Sequence
from datetime import UTC, datetime

from store import keys, migrate, processes
from store.database import Database
from store.errors import StoreError
from store.settings import StoreSettings
from store.tables import ApiKey


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit code."""
    options = _parser().parse_args(arguments)
    settings = StoreSettings()
    database = Database(settings.database_url.get_secret_value())
    try:
        match options.command, getattr(options, "action", None):
            case "migrate", _:
                _migrate(settings, database)
            case "heartbeat", _:
                return 0 if _lives(database, options.kind, options.host, options.within_seconds) else 1
            case _, "create":
                _create(database, options.name)
            case _, "list":
                _list(database, as_json=options.json)
            case _:
                _revoke(database, options.id)
    except StoreError as error:
        print(f"{error} ({error.code})", file=sys.stderr)
        return 1
    finally:
        database.dispose()
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m store", description="BNLab's database: BNLAB_DATABASE_URL.")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser(
        "migrate", help="bring the schema up to date, and create the key in BNLAB_BOOTSTRAP_API_KEY if it is absent"
    )
    heartbeat = commands.add_parser("heartbeat", help="for health checks: exit code 0 if the process lives, 1 if not")
    heartbeat.add_argument("--kind", required=True, choices=["relay", "worker"])
    heartbeat.add_argument("--host", default=socket.gethostname(), help="where it runs; this host if not given")
    heartbeat.add_argument("--within-seconds", type=float, default=60.0, help="older heartbeats do not count")
    actions = commands.add_parser("keys", help="create, list and revoke API keys").add_subparsers(
        dest="action", required=True
    )
    create = actions.add_parser("create", help="make a key and print it, once")
    create.add_argument("--name", required=True, help="for people: who or what uses the key")
    listing = actions.add_parser("list", help="show all keys, without their secrets")
    listing.add_argument("--json", action="store_true", help="as JSON")
    actions.add_parser("revoke", help="make a key useless").add_argument("id", help="the id that `list` shows")
    return parser


def _migrate(settings: StoreSettings, database: Database) -> None:
    migrate.upgrade(settings.database_url.get_secret_value(), wait_seconds=settings.migrate_wait_seconds)
    secret = settings.bootstrap_api_key
    if secret is not None and secret.get_secret_value():
        with database.write() as session:
            keys.ensure(session, "bootstrap", secret.get_secret_value())


def _lives(database: Database, kind: str, host: str, within_seconds: float) -> bool:
    with database.read() as session:
        return any(
            process.host == host for process in processes.live(session, kind=kind, within_seconds=within_seconds)
        )


def _create(database: Database, name: str) -> None:
    with database.write() as session:
        key = keys.create(session, name)
    print(key.secret)
    print(f"{key.id} is its id. The key itself is not shown again.", file=sys.stderr)


def _list(database: Database, *, as_json: bool) -> None:
    with database.read() as session:
        rows = [_shown(key) for key in keys.list_all(session)]
    if as_json:
        print(json.dumps(rows, indent=2))
        return
    layout = "{id:<38} {prefix:<14} {created_at:<22} {last_used_at:<22} {revoked_at:<22} {name}"
    print(
        layout.format(**{name: name for name in ("id", "prefix", "created_at", "last_used_at", "revoked_at", "name")})
    )
    for row in rows:
        print(layout.format(**{name: value or "-" for name, value in row.items()}))


def _revoke(database: Database, key_id: str) -> None:
    with database.write() as session:
        keys.revoke(session, key_id)


def _shown(key: ApiKey) -> dict[str, str | None]:
    return {
        "id": key.id,
        "name": key.name,
        "prefix": key.prefix,
        "created_at": _utc(key.created_at),
        "last_used_at": _utc(key.last_used_at),
        "revoked_at": _utc(key.revoked_at),
    }


def _utc(seconds: float | None) -> str | None:
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


if __name__ == "__main__":
    sys.exit(main())
