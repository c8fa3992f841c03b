"""`bnlab list` shows what the server finds, in the order in which it does."""

import re
from urllib.parse import parse_qs, urlsplit

import pytest
from typer.testing import CliRunner

from client.cli import app
from client.http import Client
from store.experiments import SORTS
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


def test_it_is_the_server_that_sorts_and_no_more_is_asked_for_than_is_shown(monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    asked = []

    def answer(_, path):
        asked.append(parse_qs(urlsplit(path).query))
        return 200, {"data": FOUND[len(asked) - 1 :][:1], "next_cursor": "more"}

    with answering(answer) as url:
        shown = CliRunner().invoke(app, ["list", "--sort", "-accuracy", "-n", "2", "--tag", "q=a", "--url", url])
    assert shown.exit_code == 0
    assert "The first 2; --limit shows more." in shown.stderr
    first, second = asked
    assert first == {"sort": ["-accuracy"], "limit": ["2"], "tag": ["q:a"]}
    assert second == {**first, "cursor": ["more"]}


def test_every_sort_of_the_server_is_in_the_help():
    said = " ".join(CliRunner().invoke(app, ["list", "--help"], env={"COLUMNS": "200"}).stdout.split())
    for name in SORTS:
        assert re.search(rf"\b{name}\b[,; ]", said), name
        assert re.search(rf"\b{name}\b", str(Client.list.__doc__)), name


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


def test_the_table_has_accuracy_stop_reason_place_and_time_left(run):
    lines = {line.split()[-1]: line for line in run().stdout.splitlines()}
    assert "place 3" in lines["5"]
    assert "0.25" in lines["4"]
    assert "about 2.0 h" in lines["4"]
    assert "budget" in lines["3"]
