"""Workers, and in words what waits for one."""

from collections.abc import Callable
from typing import Any

import pytest

from store import processes
from store.processes import Heartbeat
from tests.api.holders import holder


def beat(api: Any, number: int, **said: Any) -> None:
    with api.database.write() as session:
        processes.beat(session, Heartbeat(f"prc_{number}", said.pop("kind", "worker"), "host", number, **said))


def waits_for(api: Any, made: str) -> Any:
    """What each view says; they agree."""
    shown = api.client.get(f"/v1/experiments/{made}").json()
    listed = next(entry for entry in api.client.get("/v1/experiments").json()["data"] if entry["id"] == made)
    results = api.client.get(f"/v1/experiments/{made}/results").json()
    assert shown["waiting_for"] == listed["waiting_for"] == results["waiting_for"]
    return shown["waiting_for"]


def test_workers_say_what_they_are_and_whose_work_they_do(api: Any) -> None:
    assert api.client.get("/v1/workers").json() == {"data": [], "has_more": False, "next_cursor": None}
    with holder(api) as client:
        theirs = client.post("/v1/experiments", json={}).json()["id"]
        beat(api, 1, device="cpu", device_model="EPYC", versions={"torch": "2.13.0"}, job_id=theirs)
        beat(api, 2, device="cuda", device_model="H100", trouble="its disk is full", job_id=api.submit())
        beat(api, 3, kind="relay")
        first, second = client.get("/v1/workers").json()["data"]
        assert (first["id"], first["device"], first["device_model"]) == ("prc_1", "cpu", "EPYC")
        assert (first["versions"], first["trouble"]) == ({"torch": "2.13.0"}, None)
        assert (first["is_busy"], first["working_on"]) == (True, theirs)
        assert (second["is_busy"], second["working_on"], second["trouble"]) == (True, None, "its disk is full")
        assert first["since"] <= first["heartbeat_at"]
    everything = api.client.get("/v1/workers").json()["data"]
    assert all(entry["working_on"] for entry in everything)


def test_what_is_waited_for_is_said_in_words(sqlite_api: Any, by_hand: Callable[..., Any]) -> None:
    api = sqlite_api
    cpu, cuda = api.submit(), api.submit(resources={"device": "cuda"})
    assert waits_for(api, cpu) == "a cpu worker; none is connected"
    assert waits_for(api, cuda) == "a cuda worker; none is connected"
    beat(api, 1, device="cpu", device_model="another model", trouble="its disk is full")
    assert waits_for(api, cpu) == "a cpu worker; those connected are in trouble: its disk is full"
    beat(api, 1, device="cpu", device_model="another model")
    assert waits_for(api, cpu) == "worker"
    from store import work

    hand = by_hand(api.database)
    assert waits_for(api, cpu) is None
    hand.finish(work.Released())
    assert waits_for(api, cpu) == "a cpu worker with some model; none is connected"
    beat(api, 2, device="cpu", device_model="some model")
    assert waits_for(api, cpu) == "worker with some model"
    by_hand(api.database).finish(work.Failed("disk_full", "full"))
    assert waits_for(api, cpu).startswith("until 2")


@pytest.mark.parametrize("path", ["/v1/experiments", "/v1/experiments:validate"])
def test_who_asks_for_a_device_that_is_not_there_is_warned(sqlite_api: Any, path: str) -> None:
    api = sqlite_api
    asked = {"resources": {"device": "cuda"}}
    (warning,) = api.client.post(path, json=asked).json()["warnings"]
    assert (warning["code"], warning["pointer"]) == ("no_such_worker", "/resources/device")
    assert api.client.post(path, json={}).json()["warnings"] == []
    cold = {"network": {"kind": "mlp", "norm": {"kind": "batch_renorm"}}, "train": {"steps": 100}}
    (warning,) = api.client.post(path, json=cold).json()["warnings"]
    assert (warning["code"], warning["pointer"]) == ("cold_statistics", "/network/norm/momentum")
    beat(api, 1, device="cuda", device_model="H100")
    assert api.client.post(path, json=asked).json()["warnings"] == []


def test_views_show_what_was_known_a_moment_ago_and_ask_no_more(sqlite_url: str, serve: Callable[..., Any]) -> None:
    with serve(sqlite_url, readiness_cache_seconds=60.0) as api:
        made = api.submit()
        beat(api, 1, device="cpu")
        assert waits_for(api, made) == "a cpu worker; none is connected"
