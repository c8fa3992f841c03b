"""docs/evaluations.md as it stands: its commands run in one shell against a real stack, and what it shows is valid."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from safetensors.numpy import load_file

from bncore.spec import load_spec
from bncore.spec.evaluation import load_evaluation

PAGE = (Path(__file__).parents[2] / "docs" / "evaluations.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def in_bash(language: str, text: str) -> str:
    return text if language == "bash" else f"python - <<'END_OF_BLOCK'\n{text}END_OF_BLOCK\n"


@pytest.mark.system
@pytest.mark.timeout(300)
def test_every_command_of_the_page_works_as_it_stands(stack: Any, tmp_path: Path) -> None:
    script = "set -e\n" + "\n".join(in_bash(*block) for block in BLOCKS if block[0] != "json")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("BNLAB_", "PYTEST"))}
    environment = {"BNLAB_URL": stack.url, "BNLAB_API_KEY": stack.api_key, "HOME": str(tmp_path)}
    path = f"{Path(sys.executable).parent}:{kept['PATH']}"
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=tmp_path,
        env={**kept, **environment, "PATH": path},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
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
