"""Experiments that begin with a checkpoint: completed at the POST, or refused in words; the checkpoint stays."""

from typing import Any

import pytest
from sqlalchemy import func, select

from store import files
from store.columns import core
from store.jobs import leases
from store.tables import Experiment
from tests.api.test_http_evaluations import MLP, claimed, purge, stranger, trained


def begin(api: Any, start: dict[str, Any], **parts: Any) -> Any:
    return api.client.post("/v1/experiments", json={**MLP, "start_from": start, **parts})


@pytest.mark.parametrize("key", [None, "once"])
def test_what_the_checkpoint_is_is_recorded_and_its_weights_stay_without_their_experiment(
    api: Any, by_hand: Any, key: str | None
) -> None:
    source, made = trained(api, by_hand, "last")
    start = {"checkpoint": made["last"], "freeze": "norms"}
    headers = {"Idempotency-Key": key} if key else {}
    body = {**MLP, "start_from": start}
    answer = api.client.post("/v1/experiments", json=body, headers=headers)
    assert answer.status_code == 202, answer.text
    shown = answer.json()["spec"]["start_from"]
    spec = api.client.get(f"/v1/experiments/{source}").json()["spec"]
    listed = api.client.get(f"/v1/experiments/{source}/checkpoints").json()["data"][0]
    assert shown == {
        **start,
        "reset_head": False,
        "source": {
            "experiment": source,
            "step": 5,
            "sha256": listed["sha256"],
            "data": spec["data"],
            "network": spec["network"],
        },
    }
    # As it is shown it can be submitted again, and tried out.
    assert api.client.post("/v1/experiments:validate", json=answer.json()["spec"]).status_code == 200
    assert api.client.delete(f"/v1/experiments/{source}").status_code == 204
    purge(api)
    for attempt in (1, 2):
        claim = claimed(api)
        assert (claim.lease.attempt, claim.restore) == (attempt, None)
        ((path, (weights,)),) = claim.inputs.items()
        assert path == "checkpoint/weights.safetensors"
        assert b"".join(files.read(api.database, weights)) == b"last"
        with api.database.write() as session:
            leases.release(session, claim.lease)


def test_a_clone_keeps_the_checkpoint_or_names_another(api: Any, by_hand: Any) -> None:
    _, made = trained(api, by_hand, "best", "last")
    first = begin(api, {"checkpoint": made["best"]}).json()
    path = f"/v1/experiments/{first['id']}/clone"
    same = api.client.post(path, json={"train": {"seed": 2}}).json()["spec"]["start_from"]
    assert same == first["spec"]["start_from"]
    other = api.client.post(path, json={"start_from": {"checkpoint": made["last"]}})
    assert other.status_code == 202, other.text
    assert other.json()["spec"]["start_from"]["source"]["step"] == 6
    assert api.client.post(path, json={"start_from": None}).json()["spec"]["start_from"] is None


def test_what_cannot_begin_so_is_refused_with_the_reason_and_nothing_is_left(sqlite_api: Any, by_hand: Any) -> None:
    _, made = trained(sqlite_api, by_hand, "last")
    wide = {"network": {"kind": "mlp", "hidden": [9]}}
    source = begin(sqlite_api, {"checkpoint": made["last"]}).json()["spec"]["start_from"]["source"]
    for start, parts, pointer in (
        ({"checkpoint": f"ckp_{32 * '0'}"}, {}, "/start_from/checkpoint"),
        ({"checkpoint": 5}, {}, "/start_from/checkpoint"),
        ({}, {}, "/start_from/checkpoint"),
        ({"checkpoint": made["last"]}, wide, "/network/hidden"),
        ({"checkpoint": made["last"]}, {"data": {"kind": "mnist5k"}}, "/data"),
        ({"checkpoint": made["last"], "freeze": "all"}, {}, "/start_from/freeze"),
        ({"checkpoint": made["last"], "source": {**source, "step": 7}}, {}, "/start_from/source"),
    ):
        answer = begin(sqlite_api, start, **parts)
        assert answer.status_code == 422, (start, answer.text)
        assert [fault["pointer"] for fault in answer.json()["errors"]] == [pointer]
    with sqlite_api.database.read() as session:
        assert session.scalar(select(func.count()).select_from(core(Experiment))) == 2


def test_the_checkpoint_of_somebody_else_is_none(sqlite_api: Any, by_hand: Any) -> None:
    _, made = trained(sqlite_api, by_hand, "last")
    headers = {"Authorization": f"Bearer {stranger(sqlite_api)}"}
    body = {**MLP, "start_from": {"checkpoint": made["last"]}}
    answer = sqlite_api.client.post("/v1/experiments", json=body, headers=headers)
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["code"] == "no_such_checkpoint"
