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
