"""Names that look alike, or turn around the text that they stand in, are refused wherever one may be given."""

import unicodedata
from typing import Any

import pytest

from bncore.spec.seen import unseen

SPEC: dict[str, Any] = {"network": {"kind": "mlp", "hidden": [4]}, "train": {"steps": 1}}
BN: dict[str, Any] = {**SPEC, "network": {"kind": "mlp", "hidden": [4], "norm": {"kind": "batch_norm"}}}
RATES = {"optimizer.lr": [0.1, 0.2]}
FIELDS: dict[str, tuple[str, Any, str]] = {
    "an experiment": ("/v1/experiments", lambda name: {**SPEC, "name": name}, "/name"),
    "an experiment's tag": ("/v1/experiments", lambda name: {**SPEC, "tags": {name: "x"}}, "/tags/{}"),
    "what a tag says": ("/v1/experiments", lambda name: {**SPEC, "tags": {"x": name}}, "/tags/x"),
    "one that is tried out": ("/v1/experiments:validate", lambda name: {**SPEC, "name": name}, "/name"),
    "a sweep": ("/v1/sweeps", lambda name: {"template": SPEC, "axes": RATES, "name": name}, "/name"),
    "a sweep's template": ("/v1/sweeps", lambda name: {"template": {**SPEC, "name": name}, "axes": RATES},
                           "/template/name"),
    "a sweep's arm": ("/v1/sweeps", lambda name: {"template": SPEC, "arms": {"a": {"optimizer.lr": 0.2}, name: {}}},
                      "/arms/{}"),
    "an arm that is tried out": ("/v1/sweeps:validate", lambda name: {"template": SPEC, "arms": {name: {}}},
                                 "/arms/{}"),
    "an axis": ("/v1/sweeps", lambda name: {"template": SPEC, "axes": {name: [1, 2]}}, "/axes/{}"),
    "a study": ("/v1/studies", lambda name: {"claim": "scale-invariance", "scale": "tiny", "name": name}, "/name"),
    "a study's tag": ("/v1/studies", lambda name: {"claim": "scale-invariance", "scale": "tiny", "tags": {name: ""}},
                      "/tags/{}"),
    "a comparison's arm": ("/v1/studies", lambda name: {"compare": {"baseline": SPEC, name: BN}, "delta": 0.01},
                           "/compare/{}"),
    "a data set": ("/v1/datasets", lambda name: {"name": name, "format": "csv"}, "/name"),
    "a file": ("/v1/datasets", lambda name: {"name": "x", "format": "csv", "file_name": name}, "/file_name"),
    "a key": ("/v1/keys", lambda name: {"name": name, "scopes": ["read"]}, "/name"),
    "an owner": ("/v1/keys", lambda name: {"name": "x", "owner": name, "scopes": ["read"]}, "/owner"),
}  # fmt: skip
UNSEEN = {
    "turned around": "b\u202en",
    "isolated": "b\u2066n",
    "a mark of direction": "bn\u200e",
    "no width": "b\u200bn",
    "a joiner that joins nothing": "b\u200dn",
    "a byte order mark": "\ufeffbn",
    "a soft hyphen": "b\u00adn",
    "an end of a line": "b\u2028n",
    "a filler": "\u3164",
    "a control": "b\u0007n",
    "a tag without its flag": "bn\U000e0067",
}
SEEN = ["bn", "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645", "\U0001f468\u200d\U0001f469\u200d\U0001f467",
        "\U0001f3f4\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f", "\u65e5\u672c", "\u00e9",
        "\u05d1\u05d0\u05d8\u05e5", "\u2764\ufe0f", "\u0928\u094d\u200d\u092f"]  # fmt: skip


@pytest.mark.parametrize("field", FIELDS)
def test_a_name_of_what_is_not_seen_is_refused(shared_api: Any, field: str) -> None:
    path, made, pointer = FIELDS[field]
    for name in UNSEEN.values():
        answer = shared_api.client.post(path, json=made(name))
        assert answer.status_code == 422, (field, name, answer.text)
        pointers = [fault["pointer"] for fault in answer.json()["errors"]]
        assert any(one.startswith(pointer.partition("{")[0]) for one in pointers), (name, pointers)


@pytest.mark.parametrize("case", UNSEEN)
def test_so_it_is_where_a_name_is_changed(shared_api: Any, case: str) -> None:
    made = shared_api.client.post("/v1/experiments", json=SPEC).json()["id"]
    for patch in ({"name": UNSEEN[case]}, {"tags": {UNSEEN[case]: "x"}}):
        for answer in (
            shared_api.client.patch(f"/v1/experiments/{made}", json=patch),
            shared_api.client.post(f"/v1/experiments/{made}/clone", json=patch),
        ):
            assert answer.status_code == 422, answer.text
    shared_api.client.post(f"/v1/experiments/{made}/cancel")


def test_what_is_wrong_is_said_by_its_number(shared_api: Any) -> None:
    answer = shared_api.client.post("/v1/experiments", json={**SPEC, "name": "b\u202en"}).json()
    (fault,) = answer["errors"]
    assert (fault["pointer"], fault["code"]) == ("/name", "unseen_character")
    assert "U+202E (RIGHT-TO-LEFT OVERRIDE)" in fault["detail"]


@pytest.mark.parametrize("name", SEEN)
def test_words_and_signs_of_every_script_are_names(shared_api: Any, name: str) -> None:
    answer = shared_api.client.post("/v1/sweeps:validate", json={"template": SPEC, "arms": {name: {}}, "name": name})
    assert answer.status_code == 200, answer.text


def test_all_letters_and_digits_are_seen() -> None:
    every = [chr(number) for number in range(0x110000) if unicodedata.category(chr(number)) in ("Lu", "Ll", "Lt", "Nd")]
    assert [char for char in every if unseen(char) is not None] == []
    formats = [chr(number) for number in range(0x110000) if unicodedata.category(chr(number)) in ("Cf", "Zl", "Zp")]
    assert [char for char in formats if unseen(char) is None] == []
