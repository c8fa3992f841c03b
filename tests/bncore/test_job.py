"""Which kind of job a run directory is for, and how one ends that cannot be done."""

import json
import subprocess
import sys

import pytest

from bncore.events import RESULT_BYTES, Concluded, decode, encode
from bncore.job import run_job
from bncore.run_directory import EXIT_FAILED, RunLayout


@pytest.mark.parametrize(
    ("name", "kind"), [("spec.json", "experiment"), ("import.json", "dataset"), ("evaluation.json", "evaluation")]
)
def test_the_file_that_is_there_says_what_to_do(tmp_path, name, kind):
    (tmp_path / name).write_text("{}")
    layout = RunLayout(tmp_path)
    assert layout.kind == kind
    assert layout.asked(kind) == tmp_path / name


def test_a_directory_is_for_one_job(tmp_path):
    for name in ("spec.json", "import.json"):
        (tmp_path / name).write_text("{}")
    command = [sys.executable, "-P", "-m", "bncore", str(tmp_path)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == EXIT_FAILED
    assert "spec.json and import.json" in ended.stderr
    assert not (tmp_path / "events.jsonl").exists()


@pytest.mark.parametrize("name", ["import.json", "evaluation.json"])
def test_a_job_that_cannot_be_done_says_so_last(tmp_path, name):
    (tmp_path / name).write_text(json.dumps({"nothing": "that anybody knows"}))
    outcome = run_job(tmp_path)
    assert outcome.kind == "failed"
    assert decode((tmp_path / "events.jsonl").read_bytes().splitlines()[-1]) == outcome


def test_a_result_is_kept_as_it_is_and_bounded():
    found = Concluded(result={"accuracy": 0.5, "classes": ["a", None, {"b": [1, True]}]})
    assert decode(encode(found)) == found
    with pytest.raises(ValueError, match=str(RESULT_BYTES)):
        Concluded(result={"text": "x" * RESULT_BYTES})
