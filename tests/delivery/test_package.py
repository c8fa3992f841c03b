"""What the distribution says of itself, and brings along."""

import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_the_licence_is_named_and_its_text_is_there() -> None:
    assert PROJECT["project"]["license"] == "Apache-2.0"
    (file,) = PROJECT["project"]["license-files"]
    text = (ROOT / file).read_text()
    assert "Version 2.0, January 2004" in text
    assert "END OF TERMS AND CONDITIONS" in text


@pytest.mark.parametrize("package", ["bncore", "client"])
def test_what_users_import_brings_its_types(package: str) -> None:
    assert "py.typed" in PROJECT["tool"]["setuptools"]["package-data"][package]
    assert (ROOT / package / "py.typed").is_file()


def test_every_file_that_the_build_needs_is_in_the_docker_context() -> None:
    kept = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    packages = {pattern.rstrip("*") for pattern in PROJECT["tool"]["setuptools"]["packages"]["find"]["include"]}
    assert {"pyproject.toml", PROJECT["project"]["readme"], *PROJECT["project"]["license-files"], *packages} <= kept
