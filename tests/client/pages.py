"""Pages of docs/ as they stand: their blocks, and their commands run in one shell against a real stack."""

import os
import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parents[2] / "docs"
Block = tuple[str, str]
"""Of code in a page: its language, its text."""


def blocks_of(page: str) -> list[Block]:
    """All code of a page, in its order."""
    return re.findall(r"^```(\w+)\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)


def script_of(blocks: Iterable[Block]) -> str:
    """One script for bash, Python in it where it stands; what is neither is left out, and the first failure ends it."""
    return "set -e\n" + "\n".join(
        text if language == "bash" else f"python - <<'END_OF_BLOCK'\n{text}END_OF_BLOCK\n"
        for language, text in blocks
        if language in ("bash", "python")
    )


def run_in(place: Path, stack: Any, *command: str, columns: int | None = None) -> "subprocess.CompletedProcess[str]":
    """Run a command to its good end, in a folder of its own, as a user of the stack who has nothing else set."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("BNLAB_", "PYTEST"))}
    environment = {"BNLAB_URL": stack.url, "BNLAB_API_KEY": stack.api_key, "HOME": str(place)}
    if columns is not None:
        environment["COLUMNS"] = str(columns)
    path = f"{Path(sys.executable).parent}:{kept['PATH']}"
    done = subprocess.run(
        command,
        cwd=place,
        env={**kept, **environment, "PATH": path},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done
