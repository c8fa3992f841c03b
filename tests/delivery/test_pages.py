"""What the pages say is there: files exist, specs are valid, the tree of the README names every entry."""

import re
from pathlib import Path

import pytest

from bncore.spec import ExperimentSpec, load_spec, parse_json
from client.documents import looks_like_json, read_document

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])
EXAMPLES = sorted(path for path in ROOT.glob("examples/*") if path.suffix in (".json", ".yaml"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_an_example_is_a_valid_spec_named_like_its_file(path: Path) -> None:
    text = path.read_text()
    spec = load_spec(read_document(text, json=looks_like_json(path, text)).value)
    assert isinstance(spec, ExperimentSpec)
    assert spec.name == path.stem


def test_there_are_examples_in_both_formats() -> None:
    assert {path.suffix for path in EXAMPLES} == {".json", ".yaml"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_file_that_a_page_names_exists(page: Path) -> None:
    text = page.read_text()
    folders = "|".join(sorted(path.name for path in ROOT.iterdir() if path.is_dir() and path.name[0] != "."))
    named = set(re.findall(rf"`((?:{folders})/[\w./-]*)`", text))
    named |= {str((page.parent / link).relative_to(ROOT)) for link in re.findall(r"\]\((?!http)([^)#]+)\)", text)}
    assert not [name for name in sorted(named) if not (ROOT / name).exists()]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_make_target_that_a_page_names_exists(page: Path) -> None:
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"(?:`|^)make ([a-z][\w-]*)", page.read_text(), re.MULTILINE)) <= targets


def test_a_spec_in_the_readme_is_valid() -> None:
    specs = re.findall(r"(?:-d|echo) '(\{.*\})'", (ROOT / "README.md").read_text())
    assert len(specs) == 2
    for text in specs:
        load_spec(parse_json(text))


def test_the_tree_in_the_readme_names_what_is_there() -> None:
    """Every entry exists, and every folder at the top that is not a product is named."""
    tree = re.search(r"## Where things are\n\n```\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert tree is not None
    top = ROOT
    named = set()
    for line in tree[1].splitlines():
        entry = line.split()[0]
        if not line.startswith(" "):
            top = ROOT / entry if entry.endswith("/") else ROOT
            named.add(entry.split("/")[0])
        assert ((top if line.startswith(" ") else ROOT) / entry).exists(), line
    products = {"build", "data", "dist", "run"}
    folders = {path.name for path in ROOT.iterdir() if path.is_dir() and not path.name.startswith(".")}
    assert {name for name in folders - products if not name.endswith(".egg-info")} <= named


def test_every_warning_is_in_the_page_of_training() -> None:
    codes = set(re.findall(r'"(\w+)"\)$', (ROOT / "bncore/spec/cautions.py").read_text(), re.MULTILINE))
    for path in ROOT.glob("api/**/*.py"):
        codes |= set(re.findall(r'SpecWarning\(.*code="(\w+)"', path.read_text()))
    codes |= set(re.findall(r'Fault\("/start_from.*"(\w+)"\)', (ROOT / "api/class_names.py").read_text()))
    table = (ROOT / "docs/training.md").read_text().partition("## Warnings")[2]
    assert codes == set(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE))
