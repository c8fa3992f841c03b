"""Keys, their owners and their workers, from Python and from the command line."""

import json

import pytest

from client import ApiError, Client
from tests.client.answers import answering


def test_a_key_is_made_replaced_and_ended(cli, client, stack):
    made = cli("keys", "create", "made here", "--scope", "read", "--expires-days", "1")
    secret = made.stdout.strip()
    assert (made.exit_code, made.stdout) == (0, f"{secret}\n")
    assert secret not in made.stderr
    with Client(stack.url, secret) as reader, pytest.raises(ApiError, match="403"):
        reader.submit({})
    (key,) = [key for key in json.loads(cli("keys", "list", "--json").stdout) if key["name"] == "made here"]
    assert (key["scopes"], bool(key["expires_at"])) == (["read"], True)
    assert secret not in cli("keys", "list").stdout

    replaced = json.loads(cli("keys", "rotate", key["id"], "--json").stdout)
    with Client(stack.url, secret) as reader, pytest.raises(ApiError, match="401"):
        reader.owner()
    with Client(stack.url, replaced["secret"]) as reader:
        assert reader.owner()["id"] == client.owner()["id"]
    # Its former key has the name too, and has ended.
    assert json.loads(cli("keys", "revoke", "made here", "--json").stdout) == {"id": replaced["id"], "revoked": True}
    again = cli("keys", "revoke", "made here")
    assert again.exit_code == 3
    assert "no key is called" in again.stderr


def test_two_keys_that_could_be_meant_are_shown(cli, client):
    ids = [client.create_key("twice")["id"] for _ in range(2)]
    refused = cli("keys", "revoke", "twice")
    assert refused.exit_code == 3
    assert all(key_id in refused.stderr for key_id in ids)
    for key_id in ids:
        client.revoke_key(key_id)


def test_a_key_that_may_not_is_exit_code_4_and_a_quota_3_both_at_once(cli, client, monkeypatch):
    over = {"title": "Forbidden", "code": "quota_exceeded", "detail": "Your limit of 5 stored bytes is reached."}
    asked = []

    def answer(*request):
        asked.append(request)
        return 403, over

    with answering(answer) as url:
        full = cli("submit", "-", "--url", url, input="{}")
    assert (full.exit_code, len(asked)) == (3, 1)
    assert over["detail"] in full.stderr
    monkeypatch.setenv("BNLAB_API_KEY", client.create_key("reads", scopes=["read"])["secret"])
    assert cli("submit", "-", input="{}").exit_code == 4


def test_owner_and_workers_are_shown(cli, client):
    owner = json.loads(cli("owner", "--json").stdout)
    shown = cli("owner").stdout
    assert owner["id"] in shown
    assert f"{owner['limits']['stored_bytes']:,}" in shown
    listed = json.loads(cli("workers", "--json").stdout)
    assert [worker["id"] for worker in client.workers()] == [worker["id"] for worker in listed]
    assert {worker["device"] for worker in listed} == {"cpu"}
    assert cli("workers").stdout.count(listed[0]["host"]) == len(listed)
