"""Classes are numbers to a network: data that number a shared class otherwise would be measured against wrong ones."""

from typing import Any

import pytest

from tests.api.datasets import imported
from tests.api.test_http_evaluations import MLP, ask


@pytest.mark.parametrize(
    ("classes", "said"),
    [
        (["bee", "cat", "dog"], "trained with 'bee' as class 1, and in these data it is class 0"),
        (["ant", "bear", "bee"], "trained with 'bee' as class 1, and in these data it is class 2"),
        (["ant", "bee", "cow"], None),
        (["0", "1", "2"], None),
        (None, None),
    ],
)
def test_a_shared_class_has_its_number(
    sqlite_api: Any, by_hand: Any, tmp_path: Any, classes: list[str] | None, said: str | None
) -> None:
    api = sqlite_api
    first = imported(api, by_hand, tmp_path, b"one", classes=["ant", "bee", "cat"])
    second = imported(api, by_hand, tmp_path, b"two", classes=classes)
    of = {"kind": "dataset", "id": first["id"]}
    experiment = api.submit(**{**MLP, "train": {"steps": 10, "batch_size": 8}}, data=of)
    hand = by_hand(api.database)
    hand.start()
    hand.checkpoint("last", 5, b"last", b"state")
    hand.finish()
    assert ask(api, experiment, data=of).status_code == 202
    answer = ask(api, experiment, data={"kind": "dataset", "id": second["id"]})
    assert answer.status_code == (202 if said is None else 422), answer.text
    if said is not None:
        (fault,) = answer.json()["errors"]
        assert (fault["pointer"], fault["code"]) == ("/data", "other_classes")
        assert said in fault["detail"]


def test_a_head_for_other_classes_is_warned_of(sqlite_api: Any, by_hand: Any, tmp_path: Any) -> None:
    api = sqlite_api
    sets = [
        imported(api, by_hand, tmp_path, source, classes=classes)
        for source, classes in ((b"one", ["ant", "bee", "cat"]), (b"two", ["ant", "cow", "cat"]), (b"three", None))
    ]
    spec = {**MLP, "train": {"steps": 10, "batch_size": 8}}
    api.submit(**spec, data={"kind": "dataset", "id": sets[0]["id"]})
    hand = by_hand(api.database)
    hand.start()
    checkpoint = hand.checkpoint("last", 5, b"last", b"state")
    hand.finish()

    def warnings(number: int, **start: Any) -> list[dict[str, Any]]:
        body = {**spec, "data": {"kind": "dataset", "id": sets[number]["id"]}}
        body["start_from"] = {"checkpoint": checkpoint, **start}
        tried = api.client.post("/v1/experiments:validate", json=body)
        assert tried.status_code == 200, tried.text
        submitted = api.client.post("/v1/experiments", json=body)
        assert submitted.json()["warnings"] == tried.json()["warnings"]
        return [one for one in tried.json()["warnings"] if one["code"] == "other_classes"]

    assert [warnings(0), warnings(2), warnings(1, reset_head=True)] == [[], [], []]
    (warning,) = warnings(1)
    assert warning["pointer"] == "/start_from/reset_head"
    assert "1 was 'bee' and is 'cow'; set it to true" in warning["detail"]
