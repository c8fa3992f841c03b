"""The page about the spec is what its classes say."""

import re
import subprocess
import sys
from pathlib import Path

from typer.testing import CliRunner

from bncore.spec import ExperimentSpec, parts
from bncore.spec.strict import fields_of
from client.cli import app

PAGE = Path(__file__).parents[2] / "docs" / "spec.md"


def test_the_page_is_the_one_that_the_classes_make_and_its_links_lead_to_headings(tmp_path: Path) -> None:
    made = tmp_path / "spec.md"
    subprocess.run([sys.executable, PAGE.parent / "write_spec_page.py", made], check=True)
    text = made.read_text()
    assert PAGE.read_text() == text, "run `make pages`"
    headings = re.findall(r"^## (.+)$", text, re.MULTILINE)
    anchors = {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
    assert set(re.findall(r"\]\(#([^)]+)\)", text)) <= anchors


def test_the_walk_finds_every_class_of_a_spec_and_each_field_is_on_the_page_and_in_the_terminal() -> None:
    """Found here by the definitions of a JSON schema, which pydantic walks by itself."""
    defined = set(ExperimentSpec.model_json_schema()["$defs"])
    found = {member.__name__ for part in parts() for member in part.members}
    assert found == {name.partition("__")[0] for name in defined}
    sections = re.split(r"^##+ ", PAGE.read_text(), flags=re.MULTILINE)
    for name in ("train", "evaluation", "checkpoint", "resources", "start_from", "train.target"):
        (part,) = [part for part in parts() if part.path == name]
        section = next(section for section in sections if section.startswith(f"{name}\n"))
        shown = CliRunner().invoke(app, ["kinds", name], env={"COLUMNS": "200"})
        assert shown.exit_code == 0, shown.stderr
        for field in fields_of(part.members[0]):
            assert f"`{field}`" in section
            assert re.search(rf"^{field} ", shown.stdout, re.MULTILINE), (name, field)
    unknown = CliRunner().invoke(app, ["kinds", "optimiser"])
    assert (unknown.exit_code, "did you mean optimizer" in unknown.stderr) == (2, True)
