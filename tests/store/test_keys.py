"""API keys and idempotency keys."""

import hashlib
from typing import Any

import pytest
from sqlalchemy import update

from store import idempotency, keys
from store.errors import IdempotencyConflict, KeyNotFound
from store.idempotency import Scope
from store.owners import DEFAULT_OWNER
from store.tables import IdempotencyKey

SCOPE = Scope("own_1", "POST", "/v1/experiments", "once")


def create(lab: Any, name: str = "me") -> keys.CreatedKey:
    with lab.database.write() as session:
        return keys.create(session, name)


def authenticate(lab: Any, secret: str) -> keys.Authenticated | None:
    with lab.database.read() as session:
        return keys.authenticate(session, secret)


def submit_once(lab: Any, scope: Scope = SCOPE, **parts: Any) -> tuple[str, bool]:
    with lab.database.write() as session:
        done = idempotency.submit_once(session, scope, lab.submission(**parts), device="cpu")
        return done.experiment.id, done.replayed


def test_a_key_opens_and_its_secret_is_not_stored(lab: Any) -> None:
    key = create(lab)
    assert key.secret.startswith("bnl_")
    assert len(key.secret) == 47
    everything = frozenset(keys.KeyScope)
    assert authenticate(lab, key.secret) == keys.Authenticated(key.id, "me", DEFAULT_OWNER, everything, None)
    stored = repr(lab.everything()["api_keys"])
    assert key.secret not in stored
    assert hashlib.sha256(key.secret.encode()).hexdigest() in stored


@pytest.mark.parametrize("secret", ["", "bnl_", "\x00", "\ud800", "x" * 100_000])
def test_a_wrong_key_opens_nothing(lab: Any, secret: str) -> None:
    create(lab)
    assert authenticate(lab, secret) is None


def test_reading_writes_nothing_and_keys_that_were_used_are_noted_together(lab: Any) -> None:
    used, idle = create(lab), create(lab)
    before = lab.everything()
    assert authenticate(lab, used.secret) is not None
    assert lab.everything() == before
    with lab.database.write() as session:
        keys.touch(session, [used.id, "key_x"])
    with lab.database.read() as session:
        rows = {row.id: row for row in keys.list_all(session)}
    assert (rows[used.id].last_used_at is None, rows[idle.id].last_used_at) == (False, None)
    assert rows[used.id].prefix == used.secret[:12]


def test_a_revoked_key_opens_nothing(lab: Any) -> None:
    key, other = create(lab), create(lab)
    for _ in range(2):
        with lab.database.write() as session:
            keys.revoke(session, key.id)
    assert authenticate(lab, key.secret) is None
    assert authenticate(lab, other.secret) is not None
    with lab.database.write() as session, pytest.raises(KeyNotFound):
        keys.revoke(session, "key_x")


def test_a_given_secret_becomes_a_key_once_and_stays_revoked(lab: Any) -> None:
    made = []
    for _ in range(2):
        with lab.database.write() as session:
            made.append(keys.ensure(session, "bootstrap", "bnl_given"))
    assert made == [True, False]
    found = authenticate(lab, "bnl_given")
    assert found is not None
    with lab.database.write() as session:
        keys.revoke(session, found.id)
        assert not keys.ensure(session, "bootstrap", "bnl_given")
    assert authenticate(lab, "bnl_given") is None


def test_a_repeated_request_gets_the_same_experiment(lab: Any) -> None:
    experiment_id, replayed = submit_once(lab)
    assert not replayed
    assert submit_once(lab) == (experiment_id, True)
    assert len(lab.everything()["bells"]) == 1


def test_a_key_for_another_request_is_a_conflict(lab: Any) -> None:
    submit_once(lab)
    with pytest.raises(IdempotencyConflict):
        submit_once(lab, name="other")
    assert len(lab.everything()["experiments"]) == 1


@pytest.mark.parametrize("other", [{"owner": "own_2"}, {"path": "/v1/sweeps"}, {"method": "PUT"}, {"key": "twice"}])
def test_a_key_counts_only_in_its_scope(lab: Any, other: dict[str, str]) -> None:
    first, _ = submit_once(lab)
    second, replayed = submit_once(lab, Scope(**{**vars(SCOPE), **other}), name="other")
    assert not replayed
    assert first != second


def test_a_key_is_free_again_after_a_day(lab: Any) -> None:
    first, _ = submit_once(lab)
    with lab.database.write() as session:
        session.execute(update(IdempotencyKey).values(expires_at=IdempotencyKey.expires_at - 24 * 3600 - 1))
    second, replayed = submit_once(lab, name="other")
    assert not replayed
    assert first != second


def test_expired_keys_are_forgotten(lab: Any) -> None:
    submit_once(lab)
    with lab.database.write() as session:
        assert idempotency.purge(session) == 0
        session.execute(update(IdempotencyKey).values(expires_at=0))
        assert idempotency.purge(session) == 1


def test_a_failed_submit_leaves_its_key_free(lab: Any) -> None:
    with pytest.raises(AttributeError), lab.database.write() as session:
        idempotency.submit_once(session, SCOPE, lab.submission(), device=object().nothing)
    assert lab.everything()["idempotency_keys"] == []
    assert submit_once(lab)[1] is False
