"""docs/diagnostics.md as it stands: its commands run in one shell against a real stack, and it knows every kind."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from bncore.spec import load_spec, members
from bncore.spec.diagnostics import DiagnosticModel, DiagnosticSpec, OnProbe
from tests.client.pages import DOCS, blocks_of, run_in, script_of

PAGE = (DOCS / "diagnostics.md").read_text()
BLOCKS = blocks_of(PAGE)


@pytest.mark.timeout(900)
def test_every_command_of_the_page_works_as_it_stands(stack: Any, tmp_path: Path) -> None:
    script = script_of(BLOCKS)
    done = run_in(tmp_path, stack, "bash", "-c", script)
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
