"""Where commands and the client write: a path that ends as a folder's is none of a file."""

from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from client.cli import app
from client.download import target_of
from client.errors import ClientError


def writing() -> list[tuple[str, ...]]:
    """The words of every option that says where to write."""
    found: list[tuple[str, ...]] = []

    def walk(command, words):
        for name, inner in getattr(command, "commands", {}).items():
            walk(inner, (*words, name))
        for option in command.params:
            found.extend((*words, name) for name in option.opts if name in ("-o", "--output", "--contact-sheet"))

    walk(typer.main.get_command(app), ())
    return found


@pytest.mark.parametrize("words", writing(), ids=" ".join)
def test_a_folder_that_does_not_exist_is_no_file(words, tmp_path):
    end = "nowhere.png/"
    result = CliRunner().invoke(app, [*words, f"{tmp_path}/{end}"], env={"COLUMNS": "400"})
    assert result.exit_code == 2
    assert f"there is no folder {tmp_path}/{end}" in " ".join(result.stderr.split())
    assert not list(tmp_path.iterdir())


def test_every_command_that_writes_is_asked():
    assert {words[0] for words in writing()} == {"fetch", "figure", "compare", "study", "sweep", "dataset", "article"}


def test_the_client_refuses_it_too_and_takes_all_else(tmp_path):
    for wrong in ("model/", "model/deeper/", "model.png/", "model/."):
        with pytest.raises(ClientError, match="there is no folder"):
            target_of(f"{tmp_path}/{wrong}")
    (tmp_path / "model").mkdir()
    for right in (f"{tmp_path}/model/", f"{tmp_path}/model", f"{tmp_path}/new.png", ".", "x.", tmp_path):
        assert target_of(right) == Path(right)
