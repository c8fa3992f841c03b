"""Evaluations from Python and from the command line, against a real stack."""

import json
from typing import Any

import pytest

from client import ApiError

ABSENT = {"device": "cuda"}


def test_one_is_asked_for_waited_for_and_deleted(client: Any, finished: dict[str, Any]) -> None:
    made = client.evaluate(finished["id"], {"kind": "digits"}, {"kind": "tent", "steps": 2}, part="train")
    found = client.wait_evaluation(made["id"], timeout_seconds=170)
    assert (found["state"], found["id"], found["result"]["before"]["count"]) == ("succeeded", made["id"], 1200)
    assert isinstance(found["result"]["after"]["loss"], float)
    assert client.evaluation(made["id"])["result"] == found["result"]
    assert made["id"] in [one["id"] for one in client.evaluations(finished["id"])]
    client.delete_evaluation(made["id"])
    assert made["id"] not in [one["id"] for one in client.evaluations()]


def test_one_that_waits_is_cancelled_and_tried_again(client: Any, finished: dict[str, Any]) -> None:
    made = client.evaluate(finished["id"], {"kind": "digits"}, resources=ABSENT, idempotency_key=f"k-{finished['id']}")
    again = client.evaluate(finished["id"], {"kind": "digits"}, resources=ABSENT, idempotency_key=f"k-{finished['id']}")
    assert made["id"] == again["id"]
    assert client.cancel_evaluation(made["id"])["state"] == "cancelled"
    assert client.retry_evaluation(made["id"])["state"] == "queued"
    assert client.cancel_evaluation(made["id"])["state"] == "cancelled"
    client.delete_evaluation(made["id"])


def test_what_does_not_fit_is_refused_with_its_field(client: Any, cli: Any, finished: dict[str, Any]) -> None:
    with pytest.raises(ApiError, match="/data: The network was trained on an image of 1x8x8"):
        client.evaluate(finished["id"], {"kind": "mnist5k"})
    refused = cli("evaluate", finished["id"], "--data", "mnist5k", "--statistics", "adabn")
    assert (refused.exit_code, refused.stdout) == (3, "")
    assert "/data: The network was trained on" in refused.stderr
    unread = cli("evaluate", finished["id"], "--data", "{kind: digits")
    assert unread.exit_code == 2
    assert "--data is not YAML" in unread.stderr


def test_programs_get_one_document_and_the_state_as_exit_code(cli: Any, client: Any, finished: dict[str, Any]) -> None:
    arguments = ("--data", "digits", "--statistics", "precise", "--checkpoint", "last", "--wait", "--json")
    done = cli("evaluate", finished["id"], *arguments)
    assert done.exit_code == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["state"] == "succeeded"
    listed = json.loads(cli("evaluations", finished["id"], "--json", "--limit", "1").stdout)
    assert [one["id"] for one in listed] == [found["id"]]
    waited = cli(
        "evaluate", finished["id"], "--data", "digits", "--set", "resources.device=cuda", "--wait", "--timeout", "0"
    )
    assert waited.exit_code == 5
    for one in client.evaluations(finished["id"]):
        client.cancel_evaluation(one["id"])


def test_a_few_inputs_are_predicted(client: Any, finished: dict[str, Any]) -> None:
    blank = [[[0.0] * 8] * 8]
    answer = client.predict(finished["id"], [blank, blank])
    assert answer["classes"][0] == answer["classes"][1]
    assert sum(answer["probabilities"][0]) == pytest.approx(1.0)
    with pytest.raises(ApiError, match="/inputs/0: Should be an image of 1x8x8"):
        client.predict(finished["id"], [[0.0]])
