"""docs/diagnostics.md as it stands: its commands run in one shell against a real stack, and it knows every kind."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bncore.spec import load_spec, members
from bncore.spec.diagnostics import DiagnosticModel, DiagnosticSpec, OnProbe

PAGE = (Path(__file__).parents[2] / "docs" / "diagnostics.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def in_bash(language: str, text: str) -> str:
    return text if language == "bash" else f"python - <<'END_OF_BLOCK'\n{text}END_OF_BLOCK\n"


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
    assert "norm_health, step 60" in done.stdout
    assert re.search(r"^activation_moments \[0, 60\]$", done.stdout, re.MULTILINE), done.stdout
    assert re.search(r"^1 weights \S+ \d", done.stdout, re.MULTILINE), done.stdout


def test_what_the_page_shows_as_json_is_valid() -> None:
    (spec,) = (json.loads(text) for language, text in BLOCKS if language == "json")
    assert [one.kind for one in load_spec(spec).diagnostics] == [
        "activation_moments",
        "gradient_heatmap",
        "loss_landscape",
        "norm_health",
    ]


@pytest.mark.parametrize("member", members(DiagnosticSpec), ids=lambda member: member.__name__)
def test_the_page_lists_every_kind_with_its_cadence_and_options(member: type[DiagnosticModel]) -> None:
    kind = member.model_fields["kind"].default
    (row,) = re.findall(rf"^\| `{kind}` \|(.*)\|$", PAGE, re.MULTILINE)
    cadence, options, *_ = (cell.strip() for cell in row.split("|"))
    shared = OnProbe.model_fields.keys() | {"kind"}
    assert set(re.findall(r"`(\w+)`", options)) == member.model_fields.keys() - shared
    usual = member.usual
    assert cadence == (f"every {usual['every_steps']}" if "every_steps" in usual else "at 0") or kind == "norm_health"
