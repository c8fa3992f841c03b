"""Submitting: what is answered, what is stored, and that a repeat with one key is one experiment."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from sqlalchemy import func, select

from bncore.spec import load_spec, plan
from store import processes
from store.jobs import bells
from store.processes import Heartbeat
from store.tables import Experiment
from tests.api.holders import holder

SPEC = {
    "name": "digits-brn",
    "tags": {"paper": "1702.03275"},
    "network": {"kind": "mlp", "hidden": [100, 100, 100], "norm": {"kind": "batch_renorm"}},
    "train": {"steps": 2000},
}


def count(api: Any) -> int:
    with api.database.read() as session:
        return int(session.execute(select(func.count()).select_from(Experiment)).scalar_one())


def post(api: Any, spec: dict[str, Any], key: str | None = None) -> httpx.Response:
    headers = {} if key is None else {"Idempotency-Key": key}
    return api.client.post("/v1/experiments", json=spec, headers=headers)


def test_a_submitted_experiment_is_accepted_and_stored_with_its_bell(api: Any) -> None:
    answer = post(api, SPEC)
    assert answer.status_code == 202
    shown = answer.json()
    assert answer.headers["location"] == f"/v1/experiments/{shown['id']}" == shown["links"]["self"]
    assert int(answer.headers["retry-after"]) >= 1
    assert (shown["state"], shown["is_terminal"], shown["phase"]) == ("queued", False, None)
    assert shown["progress"] == {"step": 0, "total_steps": 2000, "fraction": 0.0}
    assert (shown["name"], shown["tags"], shown["device"]) == ("digits-brn", SPEC["tags"], "cpu")
    assert shown["created_at"].endswith("Z")
    assert shown.pop("warnings") == []
    assert shown.pop("waiting_for").partition("worker")[1]  # in more words where it is known who is there
    assert shown.items() <= api.client.get(answer.headers["location"]).json().items()
    with api.database.read() as session:
        assert [bell.queue for bell in bells.hanging(session, 10)] == ["cpu"]


def test_the_spec_that_comes_back_is_complete_and_resubmittable(api: Any) -> None:
    first = post(api, SPEC).json()
    again = post(api, first["spec"]).json()
    assert again["id"] != first["id"]
    assert again["spec"] == first["spec"]
    assert first["spec"]["optimizer"] == {
        "kind": "sgd", "lr": 0.1, "momentum": 0.0, "nesterov": False, "weight_decay": 0.0, "exempt_norms": False,
    }  # fmt: skip


def test_an_empty_spec_is_the_default_experiment(sqlite_api: Any) -> None:
    assert post(sqlite_api, {}).json()["spec"]["network"]["kind"] == "mlp"


@pytest.mark.parametrize(("asked", "given"), [("auto", "cuda"), ("cpu", "cpu"), ("cuda", "cuda")])
def test_auto_means_cuda_while_a_cuda_worker_lives(sqlite_api: Any, asked: str, given: str) -> None:
    with sqlite_api.database.write() as session:
        processes.beat(session, Heartbeat("prc_1", "worker", "host", 1, device="cuda"))
    assert post(sqlite_api, {"resources": {"device": asked}}).json()["device"] == given


def test_auto_means_cpu_when_only_a_relay_lives(sqlite_api: Any) -> None:
    with sqlite_api.database.write() as session:
        processes.beat(session, Heartbeat("prc_1", "relay", "host", 1))
    assert post(sqlite_api, {}).json()["device"] == "cpu"


def test_validating_shows_the_plan_and_stores_nothing(api: Any) -> None:
    answer = api.client.post("/v1/experiments:validate", json=SPEC)
    assert answer.status_code == 200
    shown = answer.json()
    expected = plan(load_spec(SPEC))
    assert shown["spec"] == load_spec(SPEC).model_dump(mode="json")
    assert shown["plan"]["parameters"] == expected.parameters == sum(it["parameters"] for it in shown["plan"]["layers"])
    assert shown["plan"]["layers"][-1] == {
        "name": "output", "kind": "linear", "output_shape": [10], "parameters": 1010,
    }  # fmt: skip
    assert (shown["plan"]["input_shape"], shown["plan"]["classes"]) == ([1, 8, 8], 10)
    assert (shown["plan"]["train_examples"], shown["plan"]["test_examples"]) == (1200, 597)
    assert (shown["plan"]["steps_per_epoch"], shown["plan"]["total_steps"]) == (20, 2000)
    assert count(api) == 0


def test_ten_threads_with_one_key_submit_one_experiment(api: Any) -> None:
    barrier = threading.Barrier(10)

    def submit(_: int) -> httpx.Response:
        barrier.wait()
        return post(api, SPEC, '"5f2d1c1e-3c1b"')

    with ThreadPoolExecutor(10) as pool:
        answers = list(pool.map(submit, range(10)))
    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert sorted(answer.headers.get("idempotency-replayed", "") for answer in answers) == [""] + ["true"] * 9
    assert count(api) == 1


def test_the_same_key_with_another_spec_is_refused(api: Any) -> None:
    post(api, SPEC, "key-1")
    answer = post(api, {**SPEC, "max_restarts": 1}, "key-1")
    assert answer.status_code == 422
    assert answer.json()["code"] == "idempotency_conflict"
    assert count(api) == 1


def test_a_key_means_the_same_quoted_or_bare_and_for_the_same_spec_written_otherwise(sqlite_api: Any) -> None:
    first = post(sqlite_api, {"name": "a"}, "key-1")
    second = post(sqlite_api, {"optimizer": {"lr": 0.1, "kind": "sgd"}, "name": "a"}, '"key-1"')
    assert second.json()["id"] == first.json()["id"]


def test_a_replay_shows_the_experiment_as_it_is_now(api: Any, by_hand: Callable[..., Any]) -> None:
    first = post(api, SPEC, "key-1").json()
    by_hand(api.database).finish()
    answer = post(api, SPEC, "key-1")
    assert answer.status_code == 202
    assert (answer.json()["id"], answer.json()["state"]) == (first["id"], "succeeded")


def test_an_idempotency_key_counts_for_its_owner_whichever_key_they_hold(sqlite_api: Any) -> None:
    first = post(sqlite_api, SPEC, "key-1").json()["id"]
    headers = {"Idempotency-Key": "key-1"}
    with holder(sqlite_api, "default") as same, holder(sqlite_api, "other") as other:
        again = same.post("/v1/experiments", json=SPEC, headers=headers)
        assert (again.json()["id"], again.headers["idempotency-replayed"]) == (first, "true")
        fresh = other.post("/v1/experiments", json=SPEC, headers=headers)
    assert fresh.json()["id"] != first
    assert "idempotency-replayed" not in fresh.headers
    assert count(sqlite_api) == 2


def test_a_refused_spec_does_not_use_its_key_up(sqlite_api: Any) -> None:
    assert post(sqlite_api, {"nmae": "a"}, "key-1").status_code == 422
    answer = post(sqlite_api, SPEC, "key-1")
    assert (answer.status_code, answer.headers.get("idempotency-replayed")) == (202, None)
