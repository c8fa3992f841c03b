"""A data set goes by its name, a beginning of its id, or `last`, wherever a command takes one."""

import json
from typing import Any

import pytest
from typer.testing import CliRunner

from client.cli import app
from tests.client.answers import answering

EXPERIMENT = f"exp_{1:032x}"
IDS = [f"dat_{number:032x}" for number in (0x20 << 120, 0x10 << 120)]
MADE = [
    {"id": each, "name": name, "state": "succeeded"} for each, name in zip(IDS, ("birds", "flowers.csv"), strict=True)
]
NETWORK = {"network": {"kind": "mlp"}}
SPEC = {**NETWORK, "data": {"kind": "dataset", "id": "flowers.csv"}}
NAMED = "{kind: dataset, id: %s}"


def answer(method: str, path: str) -> tuple[int, Any]:
    if method == "GET":
        page = [] if "uploading" in path else MADE
        found = next((each for each in MADE if path.endswith(each["id"])), None)
        return 200, found or {
            "data": page[:1] if "limit=1" in path and "limit=10" not in path else page,
            "next_cursor": None,
        }
    return 422, {"title": "Enough", "status": 422}


def posted_by(*words: str, text: str | None = None) -> list[Any]:
    posted: list[Any] = []
    with answering(answer, posted) as url:
        CliRunner().invoke(app, [*words, "--url", url], input=text)
    return posted


@pytest.mark.parametrize(
    ("called", "number"), [("birds", 0), ("flowers.csv", 1), ("last", 0), (IDS[1][:8], 1), (IDS[1], 1)]
)
def test_evaluations_take_what_a_data_set_is_called(called: str, number: int) -> None:
    for said in (called, NAMED % called):
        (posted,) = posted_by("evaluate", EXPERIMENT, "--data", said)
        assert posted["data"] == {"kind": "dataset", "id": IDS[number]}
    (posted,) = posted_by("evaluate", EXPERIMENT, "--data", "digits")
    assert posted["data"] == {"kind": "digits"}


@pytest.mark.parametrize("command", [["submit"], ["validate", "--remote"], ["sweep", "submit"], ["sweep", "validate"]])
def test_specs_take_a_name_in_the_place_of_an_id(command: list[str]) -> None:
    words, *more = command if command[0] != "sweep" else [" ".join(command)]
    path = "template.data" if command[0] == "sweep" else "data"
    for spec, given in ((SPEC, []), (NETWORK, ["--set", f"{path}={NAMED % 'flowers.csv'}"])):
        document = json.dumps({"template": spec} if command[0] == "sweep" else spec)
        (posted,) = posted_by(*words.split(), "-", *more, *given, text=document)
        assert posted.get("template", posted)["data"] == {"kind": "dataset", "id": IDS[1]}


def test_what_nothing_is_called_is_said_with_what_may_be_meant() -> None:
    with answering(answer) as url:
        result = CliRunner().invoke(app, ["evaluate", EXPERIMENT, "--data", "flower.csv", "--url", url])
    assert result.exit_code == 3
    assert "no data set is called 'flower.csv'" in result.stderr
    assert "did you mean flowers.csv?" in result.stderr


def test_last_is_the_newest_data_set() -> None:
    with answering(answer) as url:
        result = CliRunner().invoke(app, ["dataset", "show", "last", "--json", "--url", url])
    assert (result.exit_code, IDS[0] in result.stdout) == (0, True), result.output


def test_what_failed_is_not_shown_in_the_place_of_what_did_not_and_is_not_deleted_by_a_guess() -> None:
    """The first try of an import failed, the second did not: both have one name."""
    tries = [{**MADE[0], "name": "a.csv"}, {**MADE[1], "name": "a.csv", "state": "failed"}]
    asked: list[tuple[str, str]] = []

    def both(method: str, path: str) -> tuple[int, Any]:
        asked.append((method, path))
        found = next((each for each in tries if path.endswith(str(each["id"]))), None)
        return 200, found or {"data": [] if "uploading" in path else tries, "next_cursor": None}

    with answering(both) as url:
        shown = CliRunner().invoke(app, ["dataset", "show", "a.csv", "--json", "--url", url])
        deleted = CliRunner().invoke(app, ["dataset", "delete", "a.csv", "--url", url])
    assert (shown.exit_code, json.loads(shown.stdout)["id"]) == (0, IDS[0]), shown.output
    assert deleted.exit_code == 3
    assert IDS[1] in deleted.stderr
    assert {method for method, _ in asked} == {"GET"}
