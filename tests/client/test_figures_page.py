"""docs/figures.md as it stands: its commands run in one shell against a real stack, and it names every figure."""

import csv
import json
import re
from pathlib import Path
from typing import Any

import pytest

from api.figure_body import FigureOfSeveral
from bncore.figures import FIGURES
from client import Client
from tests.client.pages import DOCS, blocks_of, run_in, script_of

PAGE = (DOCS / "figures.md").read_text()
BLOCKS = blocks_of(PAGE)


@pytest.mark.timeout(900)
def test_every_command_of_the_page_works_as_it_stands(stack: Any, client: Client, tmp_path: Path) -> None:
    script = script_of(BLOCKS)
    done = run_in(tmp_path, stack, "bash", "-c", script)
    listed = re.findall(r"^(\w+) {2,}\w", done.stdout, re.MULTILINE)
    assert {"curves", "moments", "activation_shapes", "step_probe", "norm_health"} <= set(listed)
    for name, begin in (
        ("accuracy.png", b"\x89PNG"),
        ("moments.svg", b"<svg"),
        ("both.svg", b"<svg"),
        ("tagged.png", b"\x89PNG"),
        ("compared.png", b"\x89PNG"),
    ):
        assert (tmp_path / name).read_bytes().startswith(begin)
    assert not list(tmp_path.glob(".*.part"))
    both = (tmp_path / "both.svg").read_text()
    assert ">batch_norm</text>" in both
    assert ">none</text>" in both
    rows = list(csv.DictReader((tmp_path / "loss.csv").read_text().splitlines()))
    (one,) = client.list(name="with-norm")
    loss = client.metrics(one["id"], "train/loss")["train/loss"]
    assert [(int(row["step"]), float(row["value"])) for row in rows] == list(
        zip(loss.steps.tolist(), loss.values.tolist(), strict=True)
    )
    _assert_a_notebook_shows_it(client, one["id"])


def _assert_a_notebook_shows_it(client: Client, experiment_id: str) -> None:
    figure = client.figure(experiment_id, "curves", keys=["test/accuracy"], theme="dark")
    shown = figure._repr_mimebundle_()
    assert shown["image/png"].startswith(b"\x89PNG")
    assert shown["application/vnd.vegalite.v5+json"]["title"]["text"] == ["test/accuracy"]


def test_the_page_names_every_figure_and_its_body_is_valid() -> None:
    named = re.findall(r"^\| `(\w+)` \| .* \| (?:`(\w+)`|series) \|$", PAGE, re.MULTILINE)
    assert {name: needs or None for name, needs in named} == {one.name: one.recordings for one in FIGURES.values()}
    (body,) = (json.loads(text) for language, text in BLOCKS if language == "json")
    FigureOfSeveral.model_validate(body)


def test_what_cannot_be_drawn_is_said_and_no_file_is_left(cli: Any, finished: dict[str, Any], tmp_path: Path) -> None:
    for arguments, code, said in (
        (["curves", "--tag", "question=norm"], 2, "with --tag goes the name of a figure"),
        (["moments", "-o", str(tmp_path / "m.png")], 3, "there is no figure moments"),
        (["curves", "-o", str(tmp_path / "m.gif")], 2, "suffix"),
        (["curves", "-k", "train/lost", "-o", str(tmp_path / "m.png")], 3, "no series train/lost"),
    ):
        ran = cli("figure", finished["id"], *arguments)
        assert (ran.exit_code, said in ran.output.lower()) == (code, True), ran.output
    assert not list(tmp_path.iterdir())
