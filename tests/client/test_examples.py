"""`examples/` and docs/tutorial.md as they stand, against a real stack; the examples with few steps and seeds.

What the steps would show is not tested: that the questions can be asked, and each prints every arm and measure.
"""

import re
import sys
from pathlib import Path
from typing import Any

import pytest

from client import Client
from tests.client.pages import blocks_of, run_in, script_of

ROOT = Path(__file__).parents[2]
SCRIPTS = sorted(path for path in ROOT.glob("examples/*.py") if path.name != "asking.py")
TUTORIAL = (ROOT / "docs" / "tutorial.md").read_text()
TABLE = (ROOT / "examples" / "README.md").read_text()


def printed_in(place: Path, stack: Any, *command: str) -> str:
    """What a command prints, in a folder of its own."""
    return run_in(place, stack, *command, columns=200).stdout


@pytest.mark.system
@pytest.mark.timeout(600)
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_an_example_runs_as_it_stands(script: Path, stack: Any, client: Client, tmp_path: Path) -> None:
    # The network of 110 layers is measured before training, and takes its time for that.
    steps, seeds = (1, 1) if script.stem == "bjorck_initialization" else (3, 2)
    said = printed_in(tmp_path, stack, sys.executable, str(script), "--steps", str(steps), "--seeds", str(seeds))
    (tag,) = re.findall(r"^bnlab compare --tag (\S+)", said, re.MULTILINE)
    groups = client.compare(tags=tag.replace("=", ":"))["groups"]
    assert {group["n"] for group in groups} == {seeds}
    measured = re.findall(r"^  (.+): +-?\S+ .*\(n(?:one in)? \d", said, re.MULTILINE)
    arms = {run["tags"]["arm"] for run in client.list(tags=tag.replace("=", ":"))}
    assert arms <= set(measured)
    assert len(groups) == len(arms) > 1
    for named in re.findall(r"^\S+\.png$", said, re.MULTILINE):
        assert (tmp_path / named).read_bytes().startswith(b"\x89PNG")


def test_the_table_has_every_example_and_nothing_else() -> None:
    named = re.findall(r"^\| `(\w+\.py)` \|", TABLE, re.MULTILINE)
    assert sorted(named) == sorted(path.name for path in SCRIPTS)


@pytest.mark.system
@pytest.mark.timeout(600)
def test_the_tutorial_runs_as_it_stands(stack: Any, client: Client, tmp_path: Path) -> None:
    said = printed_in(tmp_path, stack, "bash", "-c", script_of(blocks_of(TUTORIAL)))
    assert [group["n"] for group in client.compare(tags="question:sigmoid")["groups"]] == [3] * 4
    assert len(re.findall(r"^lr 0\.[15]: [+-]\d\.\d+ ± \d\.\d+, n 3$", said, re.MULTILINE)) == 2
    for name in ("sigmoid", "accuracy", "percentiles", "moments"):
        assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")
