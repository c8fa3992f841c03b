"""Experiments changed, cloned, and ended or deleted by the hundred."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from bncore.spec import load_spec
from store import experiments, owners
from store.experiments import Submission
from tests.api.holders import holder

MERGE = {"Content-Type": "application/merge-patch+json"}


def test_a_patch_changes_name_and_tags_and_nothing_else(api: Any, by_hand: Callable[..., Any]) -> None:
    made = api.submit(name="a", tags={"x": "1", "y": "2"})
    by_hand(api.database)
    address = f"/v1/experiments/{made}"
    before = api.client.get(address)
    answer = api.client.patch(address, json={"name": "b", "tags": {"x": None, "z": "3"}}, headers=MERGE)
    shown = answer.json()
    assert answer.status_code == 200
    assert answer.headers["etag"] != before.headers["etag"]
    assert (shown["name"], shown["tags"], shown["state"]) == ("b", {"y": "2", "z": "3"}, "running")
    assert shown["spec"] == {**before.json()["spec"], "name": "b", "tags": shown["tags"]}
    for query, found in (("tag=z:3", [made]), ("tag=x", []), ("name=b", [made]), ("name=a", [])):
        assert [entry["id"] for entry in api.client.get(f"/v1/experiments?{query}").json()["data"]] == found
    bare = api.client.patch(address, json={"name": None, "tags": None}).json()
    assert (bare["name"], bare["tags"]) == (None, {})
    assert (
        api.client.patch(address, json={"name": "c"}, headers={"If-Match": before.headers["etag"]}).status_code == 412
    )


def test_tags_that_several_add_at_once_are_all_there(api: Any) -> None:
    address = f"/v1/experiments/{api.submit(tags={'x': '1'})}"
    barrier = threading.Barrier(6)

    def add(number: int) -> int:
        barrier.wait()
        return int(api.client.patch(address, json={"tags": {f"t{number}": ""}}).status_code)

    with ThreadPoolExecutor(6) as pool:
        assert set(pool.map(add, range(6))) == {200}
    assert set(api.client.get(address).json()["tags"]) == {"x", *(f"t{number}" for number in range(6))}


BAD = {
    "another field": ({"train": {"steps": 5}}, "/train", "not_editable"),
    "a control character": ({"name": "a\x00"}, "/name", "unseen_character"),
    "a tag with a colon": ({"tags": {"a:b": "c"}}, "/tags/a:b", "string_pattern_mismatch"),
    "a number for a tag": ({"tags": {"a": 5}}, "/tags/a", "string_type"),
    "a list": ([1], "", "not_an_object"),
    "too many tags": ({"tags": {f"t{number}": "" for number in range(17)}}, "/tags", "too_long"),
}


@pytest.mark.parametrize(("patch", "pointer", "code"), BAD.values(), ids=BAD)
def test_a_patch_of_anything_else_names_the_field(shared_api: Any, patch: Any, pointer: str, code: str) -> None:
    made = shared_api.submit(name="a")
    # Whatever else is wrong: a body that is never right is said to be.
    answer = shared_api.client.patch(f"/v1/experiments/{made}", json=patch, headers={"If-Match": '"99"'})
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_body")
    assert [(fault["pointer"], fault["code"]) for fault in answer.json()["errors"]] == [(pointer, code)]
    assert shared_api.client.get(f"/v1/experiments/{made}").json()["name"] == "a"


def test_a_clone_is_another_experiment_with_what_was_changed(api: Any, by_hand: Callable[..., Any]) -> None:
    made = api.submit(name="a", tags={"x": "1"}, optimizer={"kind": "sgd", "lr": 0.5}, train={"steps": 50})
    by_hand(api.database).finish()
    address = f"/v1/experiments/{made}"
    source = api.client.get(address).json()["spec"]
    patch = {"name": None, "optimizer": {"lr": 0.25}, "train": {"seed": 7, "target": {"test_accuracy": 0.9}}}
    headers = {**MERGE, "Idempotency-Key": "once"}
    answer = api.client.post(f"{address}/clone", json=patch, headers=headers)
    shown = answer.json()
    assert (answer.status_code, answer.headers["location"]) == (202, f"/v1/experiments/{shown['id']}")
    assert (shown["state"], shown["retry_of"], shown["name"], shown["tags"]) == ("queued", made, None, {"x": "1"})
    assert shown["spec"]["optimizer"] == {**source["optimizer"], "lr": 0.25}
    target = {"accuracy": None, "loss": None, "test_accuracy": 0.9, "stop": False}
    assert shown["spec"]["train"] == {**source["train"], "seed": 7, "target": target}
    again = api.client.post(f"{address}/clone", json=patch, headers=headers)
    assert (again.json()["id"], again.headers["idempotency-replayed"]) == (shown["id"], "true")
    assert api.client.get(address).json()["retry_of"] is None


def test_a_fault_in_a_clone_points_into_the_spec_that_comes_out(shared_api: Any) -> None:
    made = shared_api.submit(network={"kind": "mlp", "norm": {"kind": "batch_norm"}})
    norm = {"network": {"norm": {"kind": "group_norm", "num_groups": 7, "momentum": None}}}
    answer = shared_api.client.post(f"/v1/experiments/{made}/clone", json=norm)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_spec")
    assert {fault["pointer"].rsplit("/", 1)[0] for fault in answer.json()["errors"]} == {"/network/norm"}


@pytest.mark.parametrize(
    ("source", "patch", "warned"),
    [
        (
            {"network": {"kind": "mlp", "norm": {"kind": "batch_norm"}}},
            {"network": {"norm": {"kind": "batch_renorm"}}},
            {"/network/norm/momentum": "Is taken over from batch_norm; null gives the default of batch_renorm, 0.01."},
        ),
        (
            {"optimizer": {"kind": "sgd", "lr": 0.5}},
            {"optimizer": {"kind": "adam", "momentum": None, "nesterov": None}},
            {"/optimizer/lr": "Is taken over from sgd; null gives the default of adam, 0.001."},
        ),
        # What was said, what is nulled, and what is the new kind's default anyway, are meant.
        ({}, {"optimizer": {"kind": "adam", "momentum": None, "nesterov": None, "lr": 0.1}}, {}),
        ({}, {"optimizer": {"kind": "adam", "momentum": None, "nesterov": None, "lr": None}}, {}),
        (
            {"network": {"kind": "mlp", "norm": {"kind": "batch_norm", "momentum": 0.01}}},
            {"network": {"norm": {"kind": "batch_renorm"}}},
            {},
        ),
        ({"optimizer": {"kind": "sgd", "lr": 0.5}}, {"optimizer": {"momentum": 0.9}}, {}),
    ],
)
def test_a_clone_says_what_it_took_over_from_another_kind(
    shared_api: Any, source: dict[str, Any], patch: dict[str, Any], warned: dict[str, str]
) -> None:
    made = shared_api.submit(**source)
    shown = shared_api.client.post(f"/v1/experiments/{made}/clone", json=patch).json()
    assert {warning["pointer"]: warning["detail"] for warning in shown["warnings"]} == warned


def test_a_clone_belongs_to_whoever_made_it_and_needs_the_source(api: Any) -> None:
    with holder(api) as client:
        made = client.post("/v1/experiments", json={}).json()["id"]
        theirs = api.client.post(f"/v1/experiments/{made}/clone", json={}).json()["id"]
        assert client.get(f"/v1/experiments/{theirs}").status_code == 404
        assert client.post(f"/v1/experiments/{api.submit()}/clone", json={}).status_code == 404


def test_what_a_filter_finds_is_ended_and_deleted_at_once(api: Any, by_hand: Callable[..., Any]) -> None:
    with holder(api) as client:
        client.post("/v1/experiments", json={"tags": {"sweep": "1"}})
        running = by_hand(api.database).lease.job_id
        for number in range(3):
            client.post("/v1/experiments", json={"tags": {"sweep": "1" if number else "2"}})
        mine = api.submit(tags={"sweep": "1"})
        cancelled = client.post("/v1/experiments:cancel?tag=sweep:1")
        assert (cancelled.status_code, cancelled.json()) == (200, {"changed": 3, "more": False})
        assert client.get(f"/v1/experiments/{running}").json()["desired"] == "cancel"
        assert client.post("/v1/experiments:cancel?tag=sweep:1").json() == {"changed": 0, "more": False}
        assert client.post("/v1/experiments:cancel?state=succeeded").json()["changed"] == 0
        assert client.post("/v1/experiments:delete?tag=sweep").json() == {"changed": 2, "more": False}
        states = [entry["state"] for entry in client.get("/v1/experiments").json()["data"]]
        assert sorted(states) == ["queued", "running"]
        assert api.client.get(f"/v1/experiments/{mine}").json()["state"] == "queued"
        assert client.post("/v1/experiments:cancel?all=true").json()["changed"] == 1


@pytest.mark.parametrize("action", ["cancel", "delete"])
@pytest.mark.parametrize("query", ["", "?all=false"])
def test_everything_is_never_meant_by_saying_nothing(shared_api: Any, action: str, query: str) -> None:
    answer = shared_api.client.post(f"/v1/experiments:{action}{query}")
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "/query/all")
    assert shared_api.client.post(f"/v1/experiments:{action}?sate=queued").status_code == 422


def test_more_than_a_call_may_change_takes_several(sqlite_api: Any) -> None:
    one = Submission.of(load_spec({"name": "x"}))
    with sqlite_api.database.write() as session:
        experiments.submit_many(session, [one] * 1001, owner=owners.DEFAULT_OWNER, device="cpu")
    for action in ("cancel", "delete"):
        answers = [sqlite_api.client.post(f"/v1/experiments:{action}?name=x").json() for _ in range(2)]
        assert answers == [{"changed": 1000, "more": True}, {"changed": 1, "more": False}]
