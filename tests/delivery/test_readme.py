"""The README as one newcomer's session: every command on it, in its order, as it stands.

Only the port is another, because several checkouts may be tested on one machine, and `make test` runs one file of
tests, not the one that runs this.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from client.local.ports import free_port

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
HEADING = re.compile(r"^#+ (.*)$", re.MULTILINE)
NOT_RUN = {"Docker": "there is no engine", "Where things are": "a tree, no commands"}
OWN_ENVIRONMENT = "The library alone"
SERVES = "make up "
PORT = "8000"


@dataclass(frozen=True)
class Block:
    section: str
    language: str
    text: str

    def as_bash(self) -> str:
        """What a person would do with it in a shell."""
        if self.language == "python":
            python = "python" if self.section == OWN_ENVIRONMENT else ".venv/bin/python"
            return f"{python} - <<'END_OF_BLOCK'\n{self.text}END_OF_BLOCK\n"
        assert self.language == "bash", f"who runs a block of {self.language!r}? {self.text}"
        return self.text


def blocks() -> list[Block]:
    """Every block of the page but those of sections that are not run."""
    page = (ROOT / "README.md").read_text()
    found = []
    for match in BLOCK.finditer(page):
        section = [heading[1] for heading in HEADING.finditer(page, 0, match.start())][-1]
        found.append(Block(section, match[1], match[2]))
    assert {block.section for block in found} >= set(NOT_RUN), "an exemption that nothing needs"
    return [block for block in found if block.section not in NOT_RUN]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of the tree in which everything is installed already, as after `make`.

    No folder with a dot is copied: environments, caches, history. Several gigabytes of them had filled a disk once.
    """
    copy = tmp_path / "bnlab"
    copy.mkdir()
    products = {"build", "data", "dist", "run"}
    for entry in ROOT.iterdir():
        if entry.is_file():
            shutil.copy2(entry, copy)
        elif entry.name not in products and not entry.name.startswith("."):
            shutil.copytree(entry, copy / entry.name, ignore=shutil.ignore_patterns("__pycache__"))
    venv = copy / ".venv"
    venv.mkdir()
    for entry in Path(sys.prefix).iterdir():
        if entry.suffix != ".stamp":
            (venv / entry.name).symlink_to(entry)
    for name in ("made", "local", "dev"):
        (venv / f"{name}.stamp").touch()
    return copy


@pytest.fixture
def environment(checkout: Path, tmp_path: Path) -> dict[str, str]:
    """A newcomer's: nothing of ours is set, and `python` is the one with the package in it."""
    ours = ("BNLAB_", "MAKE", "MFLAGS", "PYTEST", "PYTHON")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    path = f"{checkout / '.venv' / 'bin'}:{kept['PATH']}"
    # One file of tests is one worker's; others would only be started.
    tests = {"TESTS": "tests/client/test_series.py", "PYTEST_XDIST_AUTO_NUM_WORKERS": "1"}
    return kept | {"PATH": path, "HOME": str(tmp_path), "PORT": str(free_port())} | tests


@pytest.mark.timeout(900)
def test_every_command_of_the_readme_works_as_it_stands(checkout: Path, environment: dict[str, str]) -> None:
    session = blocks()
    (served,) = [at for at, block in enumerate(session) if block.text.startswith(SERVES)]
    shown = run(session[:served], checkout, environment)
    assert re.search(r"batch_renorm +succeeded", shown), shown
    assert re.search(r"^=+ \d+ passed|^\d+ passed", shown, re.MULTILINE), shown

    with serving(session[served], checkout, environment) as line:
        # What it prints is the next thing that the page says to enter, with the whole path.
        assert line.replace(environment["PORT"], PORT).replace(f"{checkout}/", "") == session[served + 1].text
        shown = run(session[served + 1 :], checkout, environment)
    assert '"state":"succeeded"' in shown, shown
    assert "digits-bn: succeeded (budget)" in shown, shown
    assert re.search(r"digits-bn: cancelled.*^exp_\w+ queued$", shown, re.MULTILINE | re.DOTALL), shown
    assert len(list(checkout.glob("exp_*-best-*.safetensors"))) == 1
    assert list((checkout / "run" / "checkpoints").glob("*.safetensors"))
    assert "BatchRenorm" in shown
    assert (checkout / "data" / "lock").read_text() == ""


def run(session: list[Block], checkout: Path, environment: dict[str, str]) -> str:
    """Enter blocks into one shell, which ends at the first that fails; all that it shows."""
    script = "set -e\n" + "\n".join(block.as_bash() for block in session)
    done = subprocess.run(
        ["bash", "-c", script.replace(f":{PORT}", f":{environment['PORT']}")],
        cwd=checkout,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@contextmanager
def serving(block: Block, checkout: Path, environment: dict[str, str]) -> Iterator[str]:
    """The first terminal: what it shows for the other one, and Ctrl-C at the end."""
    with subprocess.Popen(
        ["bash", "-c", block.text],
        cwd=checkout,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as terminal:
        assert terminal.stdout is not None
        try:
            yield next(line for line in terminal.stdout if line.startswith("export "))
        finally:
            os.killpg(terminal.pid, signal.SIGINT)
            terminal.wait(60)
