"""`bnlab study compare` makes of files what the service takes, and says what is wrong before it asks anybody."""

import json
import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from client.cli import app
from tests.client.answers import answering
from tests.client.test_hostile_server import EVIL

STUDY = "stu_" + "0" * 32
KEYED = {**os.environ, "BNLAB_API_KEY": "bnlab_key", "COLUMNS": "400"}
PLAIN = "network: {kind: mlp, hidden: [4]}\ntrain: {steps: 5}\n"


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("plain.yaml", "bn.yaml"):
        (tmp_path / name).write_text(PLAIN)
    (tmp_path / "whole.yaml").write_text("compare: {}\ndelta: 1\n")
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--baseline", "plain.yaml"], "--treatment"),
        (["whole.yaml", "--baseline", "plain.yaml"], "one FILE"),
        (["--baseline", "plain.yaml", "--treatment", "baseline=bn.yaml"], "NAME=FILE"),
        (["--baseline", "plain.yaml", "--treatment", "bn.yaml", "--tune", "optimizer.lr"], "PATH=[VALUE"),
        (["--baseline", "plain.yaml", "--treatment", "bn.yaml", "--tune", "optimizer.lr=[1"], "optimizer.lr=[1: "),
        (["--baseline", "plain.yaml", "--treatment", "bn.yaml", "--target", "high"], "NAME=NUMBER"),
        (["--baseline", "gone.yaml", "--treatment", "bn.yaml"], "gone.yaml"),
    ],
)
@pytest.mark.usefixtures("files")
def test_wrong_usage_is_said_before_anybody_is_asked(arguments: list[str], said: str) -> None:
    result = CliRunner().invoke(app, ["study", "compare", *arguments])
    assert result.exit_code == 2
    assert said in result.output


@pytest.mark.usefixtures("files")
def test_files_and_options_become_one_comparison() -> None:
    posted: list[Any] = []
    arguments = ["--baseline", "plain.yaml", "--treatment", "bn.yaml", "--treatment", "x=bn.yaml", "--delta", "0.5"]
    arguments += ["--metric", "steps_to_target", "--target", "test/loss=0.5", "--tune", "optimizer.lr=0.1, 1"]
    arguments += ["--seeds", "7", "--tuning-seeds", "2", "--trains-at", "0.4", "--set", "train.steps=9", "--json"]
    with answering(lambda *_: (202, {"id": STUDY, "state": "queued"}), posted) as url:
        result = CliRunner().invoke(app, ["study", "compare", *arguments, "--url", url])
    assert (result.exit_code, json.loads(result.output)["state"]) == (0, "queued")
    spec = {"network": {"kind": "mlp", "hidden": [4]}, "train": {"steps": 9}}
    assert posted == [
        {
            "compare": dict.fromkeys(("baseline", "bn", "x"), spec),
            "estimand": {"metric": "steps_to_target", "target": {"metric": "test/loss", "value": 0.5}},
            "tune": {"optimizer.lr": [0.1, 1]},
            "delta": 0.5,
            "seeds": 7,
            "tuning_seeds": 2,
            "trains_at": 0.4,
        }
    ]


@pytest.mark.usefixtures("files")
def test_an_import_that_failed_does_not_stand_in_the_way_of_the_one_that_did_not() -> None:
    made = [
        {"id": f"dat_{number}", "name": "a.csv", "state": state} for number, state in enumerate(("succeeded", "failed"))
    ]
    posted: list[str] = []

    def answer(method: str, path: str) -> tuple[int, Any]:
        if method == "POST":
            posted.append(path)
            return 422, {"title": "Not so", "status": 422}
        return 200, {"data": [] if "uploading" in path else made, "next_cursor": None}

    with answering(answer) as url:
        more = ["--baseline", "plain.yaml", "--treatment", "bn.yaml", "--data", "a.csv", "--url", url]
        result = CliRunner().invoke(app, ["study", "compare", *more])
    assert posted, result.output


@pytest.mark.usefixtures("files")
def test_a_fault_of_a_spec_is_said_with_the_line_of_its_file() -> None:
    faults = [{"pointer": "/compare/bn/train/steps", "detail": "Should be less", "code": "x"}]
    faults += [{"pointer": "/delta", "detail": "Is required", "code": "missing"}]
    faults += [{"pointer": "/tune/optimizer.lrr", "detail": "No such field", "code": "x"}]
    problem = {"title": "Not so", "status": 422, "errors": faults}
    with answering(lambda *_: (422, problem)) as url:
        more = ["--baseline", "plain.yaml", "--treatment", "bn.yaml", "--url", url]
        result = CliRunner().invoke(app, ["study", "compare", *more])
    assert result.exit_code == 3
    assert "/compare/bn/train/steps (bn.yaml, line 2): Should be less" in result.output
    assert "/delta (--delta): Is required" in result.output
    assert "/tune/optimizer.lrr (--tune): No such" in result.output


@pytest.mark.parametrize("command", [["list"], ["show", STUDY], ["wait", STUDY], ["claims"]])
def test_what_a_server_says_of_a_study_is_shown_and_never_obeyed(command: list[str]) -> None:
    progress = {"step": 1, "total_steps": 1, "fraction": 1.0}
    stage = {"name": EVIL, "experiments": 1, "states": {"succeeded": 1}, "evaluations": {}, "progress": progress}
    words = dict.fromkeys(("stage", "claim", "scale", "name", "waiting_for", "created_at"), EVIL)
    numbers = {"seeds": 6, "most": 12, "seconds": 1.0, "eta_seconds": None, "judged": 1, "is_terminal": True}
    numbers["ahead"] = [{"name": EVIL, "experiments": 1, "total_steps": 1}]
    more = {"failure": {"code": EVIL, "message": EVIL}, "outcomes": {EVIL: EVIL}, "states": {EVIL: 1}}
    study = {**words, **numbers, **more, "id": STUDY, "state": "failed", "stages": [stage], "progress": progress}
    verdicts = [{"name": EVIL, "outcome": EVIL, "label": EVIL, "sentence": EVIL}]
    claim = {**dict.fromkeys(("name", "number", "says", "source"), EVIL), "scales": [EVIL]}

    def answer(_method: str, path: str) -> tuple[int, Any]:
        if path.endswith("/verdict"):
            return 200, {"verdicts": verdicts}
        if path.startswith("/v1/claims"):
            return 200, {"data": [claim]}
        return 200, study if STUDY in path else {"data": [study], "next_cursor": None}

    with answering(answer) as url:
        result = CliRunner().invoke(app, ["study", *command, "--url", url], env={"COLUMNS": "400"})
    assert result.exit_code == (1 if command[0] == "wait" else 0), result.output
    assert "evil" in result.output
    if command == ["claims"]:
        assert result.output.split()[:5] == ["number", "claim", "says", "source", "scales"]
    assert not set(result.output) & set("\x1b\x07\x9b\r\x00\x7f\u202e\u2028")


@pytest.mark.usefixtures("files")
def test_warnings_of_what_was_submitted_are_said_beside_its_id_and_never_obeyed() -> None:
    warned = {"claim": None, "arm": "bn", "setting": {"optimizer.lr": 0.1}, "places": 2, "of": 6, "code": "c"}
    warnings = [{**warned, "pointer": "/network/norm", "detail": "Too few"}, {**warned, "arm": EVIL, "detail": EVIL}]
    warnings[1]["pointer"] = EVIL
    study = {"id": STUDY, "state": "queued", "kind": "comparison", "warnings": warnings}
    arguments = ["study", "compare", "--baseline", "plain.yaml", "--treatment", "bn.yaml", "--delta", "0.01"]
    with answering(lambda *_: (202, study)) as url:
        told, document = (
            CliRunner().invoke(app, [*arguments, "--url", url, *more], env={"COLUMNS": "400"})
            for more in ([], ["--json"])
        )
    assert told.exit_code == document.exit_code == 0, told.output
    assert "Warning: /network/norm: Too few (arm bn at optimizer.lr = 0.1, 2 of 6)" in told.stderr
    assert told.stdout.split() == [STUDY, "queued"]
    assert not set(told.output) & set("\x1b\x07\x9b\r\x00\x7f\u202e\u2028")
    assert json.loads(document.stdout)["warnings"] == warnings


@pytest.mark.parametrize("noun", ["study", "sweep"])
@pytest.mark.parametrize("verb", ["cancel", "delete"])
def test_without_a_terminal_nothing_happens_to_many_experiments_before_a_yes(noun: str, verb: str) -> None:
    whole = STUDY if noun == "study" else "swp_" + "0" * 32
    done: list[str] = []

    def answer(method: str, path: str) -> tuple[int, Any]:
        done.append(f"{method} {path}")
        return (204, b"") if method == "DELETE" else (409, {"title": "no", "status": 409, "code": "illegal_transition"})

    with answering(answer) as url:
        refused = CliRunner().invoke(app, [noun, verb, whole, "--url", url], input="y\n")
        assert (refused.exit_code, done) == (2, [])
        assert f"{noun} {verb} asks before" in refused.output
        CliRunner().invoke(app, [noun, verb, whole, "--yes", "--url", url])
    assert len(done) == 1
    assert done[0].startswith("DELETE" if verb == "delete" else "POST")


@pytest.mark.parametrize("said", ["n", "y"])
def test_on_a_terminal_it_is_said_how_many_experiments_a_study_has(said: str) -> None:
    done: list[str] = []

    def answer(method: str, _path: str) -> tuple[int, Any]:
        done.append(method)
        return (204, b"") if method == "DELETE" else (200, {"id": STUDY, "experiments": 1234})

    near, far = pty.openpty()
    try:
        os.write(near, f"{said}\n".encode())
        with answering(answer) as url:
            command = [sys.executable, "-m", "client.cli", "study", "delete", STUDY, "--url", url]
            ended = subprocess.run(command, stdin=far, capture_output=True, text=True, env=KEYED, check=False)
    finally:
        os.close(near)
        os.close(far)
    assert f"delete {STUDY} with its 1,234 experiments?" in " ".join(ended.stderr.split())
    assert (ended.returncode, done) == ((0, ["GET", "DELETE"]) if said == "y" else (130, ["GET"]))
