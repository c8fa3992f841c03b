"""docs/evaluations.md as it stands: its commands run in one shell against a real stack, and what it shows is valid."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from safetensors.numpy import load_file

from bncore.spec import load_spec
from bncore.spec.evaluation import load_evaluation
from tests.client.pages import DOCS, blocks_of, run_in, script_of

PAGE = (DOCS / "evaluations.md").read_text()
BLOCKS = blocks_of(PAGE)


@pytest.mark.system
@pytest.mark.timeout(300)
def test_every_command_of_the_page_works_as_it_stands(stack: Any, tmp_path: Path) -> None:
    script = script_of(BLOCKS)
    done = run_in(tmp_path, stack, "bash", "-c", script)
    assert re.search(r"^digits, test, adabn *", done.stdout, re.MULTILINE), done.stdout
    assert re.search(r"^accuracy +0\.\d+ +0\.\d+ *$", done.stdout, re.MULTILINE), done.stdout
    listed = re.findall(r"^evl_\w{32} +\w+ +digits +(\w+)", done.stdout, re.MULTILINE)
    assert sorted(listed) == ["adabn", "source", "tent"], done.stdout
    concluded = json.loads((tmp_path / "measured" / "events.jsonl").read_text().splitlines()[-1])
    assert concluded["result"]["after"]["accuracy"] > 0.3
    (weights,) = (tmp_path / "tuned" / "checkpoints").glob("last-000000030.safetensors")
    source, tuned = load_file(tmp_path / "tuned/checkpoint/weights.safetensors"), load_file(weights)
    assert {name for name in source if (source[name] != tuned[name]).any()} == {"output.weight", "output.bias"}


def test_what_the_page_shows_as_json_is_valid() -> None:
    evaluation, start = (json.loads(text) for language, text in BLOCKS if language == "json")
    load_evaluation(evaluation)
    load_spec(start)
