"""A step of a study as a job of its own: what a run directory asks for, and how it ends."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from bncore.events import decode
from bncore.job import run_job
from bncore.spec.study import load_study
from bncore.studies.asking import checked, fingerprint_of
from bncore.studies.claim import experiments

GROWTH = "diagnostics/gradient_norms/growth@0"
SPEC, ASKED = checked(load_study({"claim": "gradients-explode-with-depth", "scale": "tiny"}), lambda document: document)
WITHOUT_SCIPY = (
    "import sys; sys.modules['scipy'] = None; sys.argv = ['bncore', sys.argv[1]]\n"
    "from bncore.__main__ import main; sys.exit(main())"
)


def rows() -> list[dict[str, Any]]:
    """What its experiments say, some in words as JSON has them."""
    found = []
    for one in experiments(ASKED.design, ASKED.first):
        value: Any = "NaN" if (one.place.arm, one.seed) == ("plain", 0) else 1.2 + 0.001 * one.seed
        row = {"arm": one.place.arm, "setting": {}, "seed": one.seed, "stage": "confirm", "diverged": False}
        found.append({**row, "metrics": {GROWTH: value}, "missing": None})
    return found


def directory(path: Path, **found: Any) -> Path:
    said = {
        "asked": SPEC.model_dump(mode="json"),
        "extensions": [],
        "fingerprint": fingerprint_of(ASKED.design),
        "changed": False,
        "rows": [],
        "done": [],
        "taken": {},
        "to_evaluate": [],
        **found,
    }
    path.mkdir()
    (path / "study.json").write_text(json.dumps(said))
    return path


def concluded(path: Path, **found: Any) -> Any:
    return run_job(directory(path, **found))


def test_each_step_says_what_follows_and_the_same_again(tmp_path: Path) -> None:
    assert concluded(tmp_path / "0", rests=True).result == {"rests": True}
    batch = concluded(tmp_path / "1").result["batch"]
    assert (batch["stage"], batch["seeds"], [place["arm"] for place in batch["places"]]) == (
        "confirm",
        list(range(6)),
        ["plain", "bn"],
    )
    assert concluded(tmp_path / "2", to_evaluate=["exp_1"]).result == {"evaluate": ["exp_1"]}
    first = concluded(tmp_path / "3", rows=rows(), done=["confirm"]).result
    assert first == concluded(tmp_path / "4", rows=rows()[::-1], done=["confirm"]).result
    explodes, plain = first["verdicts"]
    assert (explodes["outcome"], first["taken"]["explodes"]) == ("holds", [6])
    # What is not a number is none of that seed.
    assert (plain["outcome"], plain["n"], plain["effects"]["missing"]) == ("inconclusive", 5, [0])


def test_what_cannot_be_judged_is_said_with_the_cure(tmp_path: Path) -> None:
    changed = concluded(tmp_path / "0", changed=True)
    assert (changed.kind, changed.code) == ("failed", "design_changed")
    fewer = concluded(tmp_path / "1", rows=rows()[:8], done=["confirm"], taken={"explodes": [6], "plain": [6]})
    assert (fewer.code, "Retry its failed experiments" in fewer.message) == ("study_incomplete", True)


def test_without_scipy_a_stage_is_submitted_and_the_verdict_says_what_to_install(tmp_path: Path) -> None:
    for name, found, kind in (("0", {}, "concluded"), ("1", {"rows": rows(), "done": ["confirm"]}, "failed")):
        path = directory(tmp_path / name, **found)
        subprocess.run([sys.executable, "-c", WITHOUT_SCIPY, str(path)], check=False, capture_output=True)
        event = decode((path / "events.jsonl").read_bytes().splitlines()[-1])
        assert event.kind == kind
    assert (event.code, "bnlab[worker]" in event.message) == ("studies_missing", True)
