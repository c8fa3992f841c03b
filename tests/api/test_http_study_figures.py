"""Figures of a study over HTTP: those of its report, one by one, drawn beside the API."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from client.cli import app
from tests.api.test_http_studies import ask, get, submit, work_off


@pytest.fixture(scope="module")
def judged(shared_api: Any) -> dict[str, Any]:
    study = submit(shared_api)
    assert get(shared_api, study, "/figures").json()["data"] == []
    early = get(shared_api, study, "/figures/effects.json")
    assert (early.status_code, early.json()["code"]) == (409, "not_judged")
    work_off(shared_api)
    return study


def test_those_that_are_listed_are_drawn_in_each_format_and_have_the_numbers_of_the_verdict(
    shared_api: Any, judged: dict[str, Any]
) -> None:
    listed = get(shared_api, judged, "/figures").json()["data"]
    # Nothing was tuned, nothing timed, and of what was measured before training there is no course.
    assert [one["name"] for one in listed] == ["effects"]
    begins = {"json": b"{", "svg": b"<svg", "png": b"\x89PNG", "html": b"<!DOCTYPE html>"}
    for form, start in begins.items():
        assert shared_api.client.get(listed[0]["links"][form]).content.startswith(start)
    document = get(shared_api, judged, "/figures/effects.json", params={"theme": "dark"}).json()
    verdicts = get(shared_api, judged, "/verdict").json()["verdicts"]
    effects = {one["estimated"]["shown"]["effect"] for one in verdicts}
    drawn = json.loads(json.dumps(document), parse_float=lambda text: round(float(text), 9))
    assert {round(effect, 9) for effect in effects} <= set(numbers_in(drawn))


def test_a_figure_is_the_same_until_it_is_judged_again(shared_api: Any, judged: dict[str, Any]) -> None:
    first = get(shared_api, judged, "/figures/effects.svg")
    same = {"If-None-Match": first.headers["etag"]}
    assert get(shared_api, judged, "/figures/effects.svg", headers=same).status_code == 304
    assert ask(shared_api, judged, "extend", json={"seeds": 1}).status_code == 202
    work_off(shared_api)
    assert get(shared_api, judged, "/figures/effects.svg", headers=same).status_code == 200


@pytest.mark.parametrize(
    ("path", "params", "status", "said"),
    [
        ("effect.png", {}, 404, "effects, measured, reaching, tuning, learning"),
        ("tuning.png", {}, 422, "Nothing was tuned"),
        ("effects.svg", {"scale": 3}, 422, "Is for the format png"),
        ("effects.gif", {}, 404, "figure is of the form"),
    ],
)
def test_what_cannot_be_drawn_is_said(
    shared_api: Any, judged: dict[str, Any], path: str, params: dict[str, Any], status: int, said: str
) -> None:
    answer = get(shared_api, judged, f"/figures/{path}", params=params)
    assert (answer.status_code, said in answer.text) == (status, True), answer.text


def test_the_command_line_lists_and_draws(shared_api: Any, judged: dict[str, Any], tmp_path: Path) -> None:
    env = {"BNLAB_URL": shared_api.url, "BNLAB_API_KEY": shared_api.key, "COLUMNS": "200"}
    listed = CliRunner().invoke(app, ["study", "figure", judged["id"]], env=env)
    assert (listed.exit_code, "effects" in listed.output) == (0, True), listed.output
    target = tmp_path / "drawn.svg"
    done = CliRunner().invoke(app, ["study", "figure", judged["id"], "effects", "-o", str(target)], env=env)
    assert (done.exit_code, target.read_text().startswith("<svg")) == (0, True), done.output


def numbers_in(value: Any) -> list[float]:
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        return [number for each in value for number in numbers_in(each)]
    return [value] if isinstance(value, float) else []
