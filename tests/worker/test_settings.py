"""Settings that could not work are refused at the start."""

import pytest
from pydantic import ValidationError

from worker.settings import RelaySettings, WorkerSettings

_URLS = {"database_url": "sqlite:///x.db", "redis_url": "redis://127.0.0.1/0"}


def test_the_defaults_fit_each_other():
    settings = WorkerSettings(**_URLS)
    assert settings.tick_seconds < settings.lease_seconds / 3
    assert settings.grace_seconds == 120.0


def test_a_tick_that_is_too_long_for_the_lease_is_refused_and_names_both_variables(monkeypatch):
    monkeypatch.setenv("BNLAB_LEASE_SECONDS", "12")
    monkeypatch.setenv("BNLAB_TICK_SECONDS", "4")
    with pytest.raises(ValidationError, match=r"BNLAB_TICK_SECONDS \(4\).*BNLAB_LEASE_SECONDS \(12\)"):
        WorkerSettings(**_URLS)


def test_passwords_are_not_shown():
    settings = RelaySettings(database_url="postgresql://me:hunter2@h/d", redis_url="redis://:hunter3@h/0")
    assert "hunter" not in repr(settings)


def test_reaping_is_looked_at_often_enough_for_a_short_lease():
    assert RelaySettings(**_URLS, lease_seconds=2.0).reap_every_seconds == 0.5
    assert RelaySettings(**_URLS).reap_every_seconds == 5.0
