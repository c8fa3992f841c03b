"""Owners and what their keys open, in the store and from the command line."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from store import keys, owners
from store.errors import KeyNotFound, OwnerNotFound
from store.keys import KeyScope
from store.owners import DEFAULT_OWNER

RunStore = Callable[..., tuple[int, str, str]]


def create(lab: Any, **options: Any) -> keys.CreatedKey:
    with lab.database.write() as session:
        return keys.create(session, "me", **options)


def opened(lab: Any, key: keys.CreatedKey) -> keys.Authenticated | None:
    with lab.database.read() as session:
        return keys.authenticate(session, key.secret)


def test_an_owner_is_made_once_by_name_and_has_several_keys(lab: Any) -> None:
    with lab.database.write() as session:
        team = owners.create(session, "team")
        assert owners.create(session, "team") == team
        assert [one.name for one in owners.list_all(session) if one.id != DEFAULT_OWNER] == ["team"]
        with pytest.raises(OwnerNotFound):
            owners.find(session, "own_x")
    first, second, other = create(lab, owner=team), create(lab, owner=team), create(lab)
    assert [opened(lab, key).owner for key in (first, second, other)] == [team, team, DEFAULT_OWNER]
    with lab.database.read() as session:
        assert [key.id for key in keys.list_all(session, owner=team)] == [first.id, second.id]
        assert len(keys.list_all(session)) == 3


@pytest.mark.parametrize(
    ("scopes", "allowed"),
    [
        ([KeyScope.READ], {KeyScope.READ}),
        ([KeyScope.SUBMIT], {KeyScope.READ, KeyScope.SUBMIT}),
        ([KeyScope.ADMIN], set(KeyScope)),
        ([], set()),
    ],
)
def test_a_key_allows_what_its_scopes_say(lab: Any, scopes: list[KeyScope], allowed: set[KeyScope]) -> None:
    found = opened(lab, create(lab, scopes=scopes))
    assert found is not None
    assert {scope for scope in KeyScope if found.allows(scope)} == allowed


def test_a_key_opens_nothing_after_its_time(lab: Any) -> None:
    short, endless = create(lab, expires_in_seconds=100), create(lab)
    assert opened(lab, short).expires_at is not None
    lab.jump(101)
    assert opened(lab, short) is None
    assert opened(lab, endless) is not None


def test_a_rotated_key_opens_as_long_as_both_are_needed(lab: Any) -> None:
    with lab.database.write() as session:
        team = owners.create(session, "team")
    old = create(lab, owner=team, scopes=[KeyScope.READ], expires_in_seconds=1000)
    with lab.database.write() as session:
        new = keys.rotate(session, old.id, overlap_seconds=60)
    before, after = opened(lab, old), opened(lab, new)
    assert (after.owner, after.scopes, after.name) == (before.owner, before.scopes, before.name)
    lab.jump(61)
    assert opened(lab, old) is None
    assert opened(lab, new) is not None
    # It does not outlive the one whose place it took.
    lab.jump(1000)
    assert opened(lab, new) is None


def test_an_overlap_does_not_make_a_key_live_longer(lab: Any) -> None:
    old = create(lab, expires_in_seconds=10)
    with lab.database.write() as session:
        keys.rotate(session, old.id, overlap_seconds=1000)
    lab.jump(11)
    assert opened(lab, old) is None


def test_keys_of_others_are_not_there(lab: Any) -> None:
    with lab.database.write() as session:
        team = owners.create(session, "team")
    key = create(lab)
    for act in (keys.get, keys.revoke, keys.rotate):
        with lab.database.write() as session, pytest.raises(KeyNotFound):
            act(session, key.id, owner=team)
    assert opened(lab, key) is not None
    with lab.database.write() as session:
        keys.revoke(session, key.id, owner=DEFAULT_OWNER)
    with lab.database.write() as session, pytest.raises(KeyNotFound):
        keys.rotate(session, key.id)
    assert opened(lab, key) is None


def test_keys_and_owners_from_the_command_line(run_store: RunStore) -> None:
    made = run_store(
        "keys", "create", "--name", "ci", "--owner", "team", "--scopes", "read,submit", "--expires-in-days", "7"
    )
    assert made[0] == 0
    (listed,) = json.loads(run_store("keys", "list", "--json")[1])
    assert (listed["owner"], listed["scopes"], listed["prefix"]) == ("team", "read,submit", made[1][:12])
    assert listed["expires_at"] > listed["created_at"]
    code, secret, _ = run_store("keys", "rotate", listed["id"], "--overlap-seconds", "60")
    assert (code, secret[:4]) == (0, "bnl_")
    rows = json.loads(run_store("keys", "list", "--json")[1])
    assert [(row["owner"], row["scopes"]) for row in rows] == [("team", "read,submit")] * 2
    assert rows[0]["expires_at"] < rows[1]["expires_at"]
    shown = json.loads(run_store("owners", "list", "--json")[1])
    assert {row["name"]: row["stored_bytes"] for row in shown} == {"default": 0, "team": 0}
    table = run_store("owners", "list")[1]
    assert "stored_bytes" in table.splitlines()[0]
    assert "team" in table


def test_a_scope_that_is_none_is_wrong_usage(run_store: RunStore) -> None:
    with pytest.raises(SystemExit) as caught:
        run_store("keys", "create", "--name", "x", "--scopes", "read,everything")
    assert caught.value.code == 2
