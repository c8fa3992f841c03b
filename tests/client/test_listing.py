"""`bnlab list` sorts all that is found, and refuses to sort a part of it."""

import json
from urllib.parse import parse_qs, urlsplit

import pytest
from typer.testing import CliRunner

from client.cli import app
from client.commands import listing
from tests.client.answers import answering


def entry(number, state="succeeded", accuracy=None, **more):
    facts = {"id": f"exp_{number:032x}", "name": f"run {number}", "state": state, "test_accuracy": accuracy}
    facts |= {"created_at": f"2026-01-{number:02}T12:00:00Z", "stop_reason": None, "queue": None, "eta_seconds": None}
    return facts | {"progress": {"step": 1, "total_steps": 2, "fraction": 0.5}, "tags": {}} | more


FOUND = [
    entry(5, "queued", queue={"position": 3, "ahead_capped": False}),
    entry(4, "running", 0.25, eta_seconds=7200.0),
    entry(3, accuracy=0.75, stop_reason="budget"),
    entry(2, accuracy="NaN", stop_reason="diverged"),
    entry(1, accuracy=0.5, stop_reason="target_reached"),
]


@pytest.fixture
def run(monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    with answering(lambda *_: (200, {"data": FOUND, "next_cursor": None})) as url:
        yield lambda *arguments: CliRunner().invoke(app, ["list", *arguments, "--url", url])


@pytest.mark.parametrize(
    ("sort", "numbers"),
    [("-accuracy", [3, 1, 4, 5, 2]), ("accuracy", [4, 1, 3, 5, 2]), ("age", [5, 4, 3, 2, 1]), ("-age", [1, 2, 3, 4, 5]),
     ("place", [5, 4, 3, 2, 1]), ("stop", [3, 2, 1, 5, 4])],
)  # fmt: skip
def test_sorted_is_all_that_is_found_and_what_has_no_value_comes_last(run, sort, numbers):
    shown = json.loads(run("--sort", sort, "--json").stdout)
    assert [one["name"] for one in shown] == [f"run {number}" for number in numbers]


@pytest.mark.parametrize(
    ("given", "sent"), [("question=norm", "question:norm"), ("a:b=c", "a:b=c"), ("q", "q"), ("arXiv=1=2", "arXiv:1=2")]
)
def test_a_tag_may_be_given_with_a_sign_of_equality(given, sent):
    # It was sent as the name of a tag that nobody has, and the table was empty.
    asked = []

    def answer(_, path):
        asked.append(parse_qs(urlsplit(path).query).get("tag"))
        return 200, {"data": [], "next_cursor": None}

    with answering(answer) as url:
        assert CliRunner().invoke(app, ["list", "--tag", given, "--url", url]).exit_code == 0
    assert asked == [[sent]]


def test_the_table_has_accuracy_stop_reason_place_and_time_left(run, monkeypatch):
    lines = {line.split()[-1]: line for line in run().stdout.splitlines()}
    assert "place 3" in lines["5"]
    assert "0.25" in lines["4"]
    assert "about 2.0 h" in lines["4"]
    assert "budget" in lines["3"]
    assert run("--sort", "beauty").exit_code == 2
    assert len(json.loads(run("--sort", "age", "-n", "2", "--json").stdout)) == 2
    monkeypatch.setattr(listing, "MOST_SORTED", 4)
    refused = run("--sort", "accuracy")
    assert (refused.exit_code, "narrow them by a filter" in refused.stderr) == (3, True)
