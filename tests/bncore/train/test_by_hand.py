"""`python -m bncore run`: what a person sees of a run without any service, and how it goes on."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from bncore.by_hand import Refused, prepare
from bncore.job import run_job

SPEC = {
    "network": {"kind": "mlp", "hidden": [8]},
    "train": {"steps": 1_000_000},
    "checkpoint": {"every_steps": 1_000_000},
}


@pytest.fixture
def spec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "mine.json"
    path.write_text(json.dumps(SPEC))
    return path


def run(*arguments: object) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "bncore", "run", *map(str, arguments)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[3])}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment, text=True)


@pytest.mark.system
def test_a_run_says_how_far_it_is_stops_when_asked_and_goes_on_bit_for_bit(spec: Path, tmp_path: Path) -> None:
    with run("mine.json") as process:
        assert process.stderr is not None
        assert process.stderr.readline().startswith("step ")
        process.send_signal(signal.SIGINT)
        said, _ = process.communicate()
        assert process.returncode == 0
    assert said.startswith("stopped at step ")
    assert said.endswith("go on: python -m bncore run mine mine-2\n")
    rest = json.loads(spec.read_text()) | {"train": {"steps": int(said.split()[3].replace(",", "")) + 200}}
    for directory in ("mine", "whole"):
        Path(directory).mkdir(exist_ok=True)
        Path(directory, "spec.json").write_text(json.dumps(rest))
    with run("mine", "mine-2") as process:
        said, told = process.communicate()
    assert process.returncode == 0, told
    assert said.startswith("budget at step ")
    assert "test/accuracy: 0." in said
    run_job(tmp_path / "whole")
    last = sorted(Path("whole/checkpoints").glob("last-*[0-9].safetensors"))[-1]
    assert Path("mine-2/checkpoints", last.name).read_bytes() == last.read_bytes()
    with pytest.raises(Refused, match=r"^mine-2 has ended \(budget at step .* nothing to go on with$"):
        prepare(Path("mine-2"), Path("mine-3"))
    with pytest.raises(Refused, match=r"^name the directory to go on in, too: python -m bncore run mine mine-2$"):
        prepare(Path("mine"), None)


@pytest.mark.usefixtures("spec")
def test_without_a_spec_a_directory_of_the_commands_name_is_not_taken() -> None:
    Path("run").mkdir()
    Path("run/spec.json").write_bytes(Path("mine.json").read_bytes())
    with run() as process:
        said, complaint = process.communicate()
    assert (process.returncode, said) == (2, "")
    assert "required: spec; the run directory that is here is ./run" in complaint
    assert [path.name for path in Path("run").iterdir()] == ["spec.json"]


@pytest.mark.usefixtures("spec")
def test_what_cannot_be_trained_is_one_line_and_makes_no_directory() -> None:
    Path("full").mkdir()
    Path("full/thesis.txt").touch()
    Path("bad.json").write_text('{"lr": 3, "train": {"batch_size": 0}}')
    Path("mine.yaml").write_text("train: {steps: 3}")
    for spec, directory, said in (
        ("nothing.json", None, "nothing.json: No such file or directory"),
        ("mine.json", "no/where", "no: there is no such directory to make where in"),
        ("mine.json", "full", "full is not empty; name a directory that is, or is not there yet"),
        ("mine.yaml", None, "mine.yaml: Must be JSON; reading failed at line 1, column 1; YAML is what `bnlab` reads"),
    ):
        with pytest.raises(Refused) as refused:
            prepare(Path(spec), None if directory is None else Path(directory))
        assert str(refused.value) == said
    with pytest.raises(Refused) as refused:
        prepare(Path("bad.json"), None)
    first, second = str(refused.value).splitlines()
    assert first == "bad.json: /lr: Unknown field; did you mean optimizer.lr?" or first.startswith("bad.json: /train/")
    assert "/train/batch_size" in first + second
    assert sorted(path.name for path in Path().iterdir()) == ["bad.json", "full", "mine.json", "mine.yaml"]
