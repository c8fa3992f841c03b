"""What the Dockerfile promises, read off the file: it builds only where there is an engine."""

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
STAGE = re.compile(r"^FROM \S+ AS (?P<name>\S+)$", re.MULTILINE)


@pytest.fixture(scope="module")
def stages() -> dict[str, str]:
    """The text of each stage by its name."""
    text = (ROOT / "Dockerfile").read_text()
    found = list(STAGE.finditer(text))
    ends = [match.start() for match in found[1:]] + [len(text)]
    return {match["name"]: text[match.end() : end] for match, end in zip(found, ends, strict=True)}


def needs(extra: str) -> set[str]:
    """Names of the packages an extra asks for, through the extras it names."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    names: set[str] = set()
    for need in extras[extra]:
        own = re.fullmatch(r"bnlab\[(?P<extras>[a-z,]+)\]", need)
        if own:
            names |= set().union(*(needs(name) for name in own["extras"].split(",")))
        else:
            names.add(re.match(r"[A-Za-z0-9_.-]+", need)[0].lower())
    return names


@pytest.mark.parametrize("target", ["api", "worker"])
def test_no_image_runs_as_root(stages: dict[str, str], target: str) -> None:
    (user,) = re.findall(r"^USER (\d+):\d+$", stages[target], re.MULTILINE)
    assert int(user) != 0


@pytest.mark.parametrize(("target", "extras"), [("api", "api,search"), ("worker", "train,worker")])
def test_an_image_installs_the_extras_of_its_processes(stages: dict[str, str], target: str, extras: str) -> None:
    assert f'install ".[{extras}]"' in stages[f"{target}-venv"]
    assert f"--from={target}-venv /venv /venv" in stages[target]


@pytest.mark.parametrize("target", ["api", "worker"])
def test_no_image_imports_code_from_its_current_folder(stages: dict[str, str], target: str) -> None:
    assert 'CMD ["python", "-P", "-m", ' in stages[target]
    assert "PYTHONSAFEPATH=1" in stages["runtime"]


def test_only_the_worker_has_torch() -> None:
    assert "torch" not in needs("api")
    assert {"torch", "safetensors"} <= needs("train")
    # The relay runs from the API's image.
    assert needs("worker") <= needs("api")


def test_nothing_secret_is_built_in(stages: dict[str, str]) -> None:
    assert not re.search(r"^(?:ENV|ARG) .*(?:KEY|PASSWORD|SECRET|TOKEN)", "\n".join(stages.values()), re.MULTILINE)
