"""docs/sweeps.md as it stands: its commands run in one shell against a real stack, and what it shows is valid."""

import csv
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from bncore.spec.sweep import expand, load_sweep

PAGE = (Path(__file__).parents[2] / "docs" / "sweeps.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
RATES = next(text for language, text in BLOCKS if language == "yaml")


def test_what_the_page_shows_expands() -> None:
    assert len(expand(load_sweep(yaml.safe_load(RATES)))) == 2 * 2 * 2
    (search,) = (json.loads(text) for language, text in BLOCKS if language == "json")
    assert len(expand(load_sweep(search))) == 20 * 3


@pytest.mark.system
@pytest.mark.timeout(300)
def test_every_command_of_the_page_works_as_it_stands(stack: Any, tmp_path: Path) -> None:
    (tmp_path / "rates.yaml").write_text(RATES)
    script = "set -e\n" + "\n".join(text for language, text in BLOCKS if language == "bash")
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
    assert re.search(r"^0\.05 +bn +0\.\d+ ± ", done.stdout, re.MULTILINE), done.stdout
    rows = list(csv.DictReader((tmp_path / "rates.csv").read_text().splitlines()))
    assert [(row["optimizer.lr"], row["arm"], row["n"]) for row in rows] == [
        (lr, arm, "3") for lr in ("0.05", "0.5") for arm in ("bn", "plain")
    ]
    assert all(0.0 < float(row["test/accuracy mean"]) <= 1.0 for row in rows)
    assert len({one for row in rows for one in row["experiments"].split()}) == 12
