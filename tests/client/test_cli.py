"""The `bnlab` command: what it prints where, and how it ends."""

import hashlib
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from client.cli import app
from tests.client.answers import answering

DIGITS = str(Path(__file__).parents[2] / "examples" / "digits-bn.yaml")
COMMANDS = [[command.name] for command in app.registered_commands]
COMMANDS += [
    [group.name, command.name]
    for group in app.registered_groups
    for command in group.typer_instance.registered_commands
]


@pytest.fixture
def spec_file(tmp_path, idle_spec):
    path = tmp_path / "spec.yaml"
    path.write_text(yaml.safe_dump(idle_spec))
    return path


@pytest.mark.parametrize("command", [[], *COMMANDS], ids=lambda words: " ".join(words) or "bnlab")
def test_help_names_the_exit_codes(command):
    result = CliRunner().invoke(app, [*command, "--help"], env={"COLUMNS": "400"})
    assert result.exit_code == 0
    assert "130 interrupted" in result.stdout
    assert not command or "--json" in result.stdout


def test_submit_prints_the_id(cli, spec_file):
    result = cli("submit", str(spec_file))
    assert result.exit_code == 0
    assert result.stdout.startswith("exp_")


def test_submit_and_wait_with_json_prints_one_document(cli, spec):
    result = cli("submit", "-", "--wait", "--json", input=json.dumps(spec))
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["state"] == "succeeded"


@pytest.mark.parametrize("more", [[], ["--json"]])
def test_a_wait_shows_the_id_at_once_and_says_when_nobody_answers(cli, more):
    experiment = {"id": "exp_1", "name": None, "state": "queued", "device": "cpu", "progress": {}}
    ended = experiment | {"state": "succeeded", "is_terminal": True, "summary": {}, "checkpoints": []}
    ended["progress"] = {"step": 1, "total_steps": 1, "fraction": 1.0}
    answers = [(202, experiment), (503, {}), (200, ended)]
    with answering(lambda *_: answers.pop(0)) as url:
        result = cli("submit", "-", "--wait", "--url", url, *more, input="{}")
    assert result.exit_code == 0, result.stderr
    assert "exp_1" in (result.stderr if more else result.stdout).splitlines()[0]
    assert f"{url} answers 503" in result.stderr
    assert "trying for up to 120 s" in result.stderr
    assert f"{url} answers again" in result.stderr


def test_set_overrides_fields(cli, spec_file):
    assignments = ("optimizer.kind=sgd", "optimizer.lr=1e-2", "network.norm={kind: none}")
    result = cli("submit", str(spec_file), "--json", *(f"--set={assignment}" for assignment in assignments))
    complete = json.loads(result.stdout)["spec"]
    assert complete["optimizer"]["lr"] == 0.01
    assert complete["network"]["norm"] == {"kind": "none"}


def test_an_experiment_that_ends_cancelled_is_exit_code_1(cli, spec_file):
    experiment = json.loads(cli("submit", str(spec_file), "--json").stdout)
    assert json.loads(cli("cancel", experiment["id"], "--json").stdout)[0]["state"] == "cancelled"
    result = cli("wait", experiment["id"])
    assert result.exit_code == 1
    assert "cancelled" in result.stdout


def test_time_over_is_exit_code_5(cli, spec_file):
    result = cli("submit", str(spec_file), "--wait", "--timeout", "0.2")
    assert result.exit_code == 5
    # The id is all there is yet.
    assert result.stdout.startswith("exp_")
    assert result.stdout.count("\n") == 1
    assert "has not ended" in result.stderr
    assert cli("submit", str(spec_file), "--wait", "--timeout", "0.2", "--json").stdout == ""


def test_who_waits_for_a_paused_experiment_is_told_so_once(cli, spec_file):
    experiment_id = json.loads(cli("submit", str(spec_file), "--json").stdout)["id"]
    cli("pause", experiment_id)
    over = cli("wait", experiment_id, "--timeout", "0.2")
    assert (over.exit_code, over.stdout) == (5, "")
    assert f"(state paused); it is paused, and `bnlab resume {experiment_id}` lets it go on" in over.stderr
    assert "it goes on" not in over.stderr

    paused = {"id": "exp_1", "state": "paused", "progress": {"step": 1, "total_steps": 2}, "summary": {}}
    ended = paused | {"state": "succeeded", "is_terminal": True, "checkpoints": []}
    answers = [paused, paused, paused, ended]
    with answering(lambda *_: (200, answers.pop(0))) as url:
        result = cli("wait", "exp_" + "1" * 32, "--url", url)
    assert result.exit_code == 0, result.stderr
    assert result.stderr.count("`bnlab resume exp_1` lets it go on") == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ["submit"],
        ["submit", "there/is/no/such.yaml"],
        ["submit", "{file}", "--set", "nonsense"],
        ["submit", "{file}", "--nonsense"],
        ["nonsense"],
        ["fetch", "exp_1", "-o", "there/is/no/model"],
    ],
)
def test_wrong_usage_is_exit_code_2(cli, spec_file, arguments):
    result = cli(*(argument.format(file=spec_file) for argument in arguments))
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr


@pytest.mark.parametrize("command", [["submit"], ["validate"], ["validate", "--remote"]])
def test_a_wrong_spec_is_exit_code_3_with_pointer_and_line(cli, tmp_path, command):
    path = tmp_path / "wrong.yaml"
    path.write_text("optimizer:\n  kind: sgd\n  learning_rate: 0.1\nnetwork: {kind: mlp, norm: {kind: bach_norm}}\n")
    result = cli(*command, str(path))
    assert result.exit_code == 3
    assert result.stdout == ""
    assert "/optimizer/learning_rate (line 3)" in result.stderr
    assert "/network/norm/kind (line 4)" in result.stderr


NORM = "network.norm"


@pytest.mark.parametrize(
    ("assignment", "place", "hinted"),
    [
        ("optimizer.lr=-1", "/optimizer/lr (--set)", False),
        ("optimizer={kind: sgd, lr: -1}", "/optimizer/lr (--set)", False),
        ("train.target.no/such=1", "/train/target/no~1such (--set)", False),
        (f"{NORM}.kind=bach_norm", "/network/norm/kind (--set)", False),
        (f"{NORM}.kind=layer_norm", "/network/norm/momentum (line 13)", True),
        ("optimizer.lr=0.1", None, False),
    ],
)
def test_a_fault_of_what_was_set_is_not_looked_for_in_the_file(cli, client, assignment, place, hinted):
    result = cli("validate", DIGITS, "--set", assignment)
    assert result.exit_code == (3 if place else 0), result.stderr
    assert (place or "") in result.stderr
    assert ("--set 'network.norm={kind: ...}' replaces them all" in result.stderr) == hinted


def test_a_clone_hints_at_what_a_former_kind_leaves(cli, client, idle_spec):
    source = client.submit(idle_spec)["id"]
    refused = cli("clone", source, f"--set={NORM}.kind=layer_norm", "--set=optimizer.lr=-1")
    assert (refused.exit_code, refused.stdout) == (3, "")
    assert "--set 'network.norm={kind: ...}' replaces them all" in refused.stderr
    assert "/optimizer/lr (--set)" in refused.stderr


def test_what_help_shows_to_be_set_can_be_set(cli):
    """Of every example in a help text, on the spec that is shipped."""
    lines = "\n".join(command.callback.__doc__ or "" for command in app.registered_commands).split("\n")
    examples = [shlex.split(line) for line in lines if "bnlab " in line and "--set " in line]
    # What `evaluate` sets is no part of a spec; its page has such a command, which is run.
    of_specs = [words for words in examples if words[1] != "evaluate"]
    assert len(of_specs) >= 3
    for words in of_specs:
        assignments = [f"--set={words[at + 1]}" for at, word in enumerate(words) if word == "--set"]
        result = cli("validate", DIGITS, *assignments)
        assert result.exit_code == 0, (words, result.stderr)


@pytest.mark.parametrize("text", ["a: [1", "train: {steps: 1, steps: 2}", "- 1", "\xff", ""])
def test_a_file_that_is_no_spec_is_exit_code_3(cli, tmp_path, text):
    path = tmp_path / "wrong.yaml"
    path.write_bytes(text.encode("latin-1"))
    result = cli("submit", str(path), "--json")
    assert (result.exit_code, result.stdout) == (3, "")
    assert str(path) in result.stderr


def test_a_verdict_on_a_wrong_spec_is_json_too(cli, tmp_path):
    path = tmp_path / "wrong.json"
    path.write_text('{"optimizer": {"kind": "sgd", "lr": -1}}')
    result = cli("validate", str(path), "--json")
    assert result.exit_code == 3
    verdict = json.loads(result.stdout)
    assert (verdict["valid"], verdict["errors"][0]["pointer"]) == (False, "/optimizer/lr")


def test_the_verdict_is_the_same_with_and_without_a_server(cli, spec_file):
    local, remote = (cli("validate", str(spec_file), "--json", *more) for more in ([], ["--remote"]))
    verdict = json.loads(remote.stdout)
    (warning,) = verdict.pop("warnings")
    assert json.loads(local.stdout) == {**verdict, "warnings": []}
    assert f"Warning: /resources/device: {warning['detail']}" in remote.stderr
    assert warning["detail"] in cli("submit", str(spec_file)).stderr


def test_what_may_not_be_meant_is_said_beside_the_verdict(cli, tmp_path):
    path = tmp_path / "cold.json"
    path.write_text('{"network": {"kind": "mlp", "norm": {"kind": "batch_renorm"}}, "train": {"steps": 100}}')
    for more in ([], ["--remote"]):
        result = cli("validate", str(path), *more)
        assert result.exit_code == 0
        assert "Valid." in result.stdout
        assert "Warning: /network/norm/momentum: At the end, 37%" in result.stderr


def test_an_unknown_experiment_is_exit_code_3(cli):
    assert cli("show", "exp_" + "0" * 32).exit_code == 3


def test_no_server_or_a_refused_key_is_exit_code_4(cli, monkeypatch):
    assert cli("list", "--url", "http://127.0.0.1:9").exit_code == 4
    monkeypatch.setenv("BNLAB_API_KEY", "bnl_wrong")
    refused = cli("list")
    assert (refused.exit_code, refused.stdout) == (4, "")
    assert "BNLAB_API_KEY" in refused.stderr


def test_list_show_and_metrics_speak_json_and_human(cli, finished):
    commands = (["list", "--tag", "part:shared"], ["show", finished["id"], "--events"], ["metrics", finished["id"]])
    for command in commands:
        human, machine = cli(*command), cli(*command, "--json")
        assert (human.exit_code, machine.exit_code) == (0, 0)
        assert finished["id"] in human.stdout or "train/loss" in human.stdout
        assert json.loads(machine.stdout)
    assert [entry["id"] for entry in json.loads(cli(*commands[0], "--json").stdout)] == [finished["id"]]


def test_a_series_that_there_is_not_is_refused_and_those_that_there_are_named(cli, client, finished, idle_spec):
    for more in ([], ["--json"]):
        refused = cli("metrics", finished["id"], "-k", "train/loss", "-k", "nosuch", *more)
        assert (refused.exit_code, refused.stdout) == (3, "")
        assert "no series 'nosuch'; it has" in refused.stderr
        assert "train/loss" in refused.stderr
    assert "; did you mean train/loss? It has " in cli("metrics", finished["id"], "-k", "train/los").stderr
    # A series without a point among the steps asked for is there all the same.
    assert cli("metrics", finished["id"], "-k", "train/loss", "--first-step", "100000").exit_code == 0
    assert "it has none yet" in cli("metrics", client.submit(idle_spec)["id"], "-k", "train/loss").stderr


def test_a_run_that_diverged_is_not_shown_as_a_plain_success(cli, spec, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    network = {"kind": "mlp", "activation": "relu", "norm": {"kind": "none"}}
    spec |= {"name": "diverges", "network": network, "optimizer": {"kind": "sgd", "lr": 1e4}}
    waited = cli("submit", "-", "--wait", input=json.dumps(spec))
    assert waited.exit_code == 0, waited.stderr
    for shown in (waited.stdout, cli("list", "--name", "diverges").stdout, cli("show", "diverges").stdout):
        assert "\x1b[33msucceeded (diverged)" in shown
        assert "\x1b[32m" not in shown
    results = json.loads(cli("wait", "diverges", "--json").stdout)
    assert results["metrics"]["train/loss"] in ("NaN", "Infinity")


def test_a_regression_shows_its_loss_while_it_waits_and_its_best_at_the_end(cli, client):
    spec = {"name": "regression", "data": {"kind": "santurkar_linear"}, "network": {"kind": "deep_linear", "depth": 2}}
    spec |= {"train": {"steps": 20}, "evaluation": {"every_steps": 10}, "optimizer": {"kind": "adam"}}
    waited = cli("submit", "-", "--wait", input=json.dumps(spec))
    assert waited.exit_code == 0, waited.stderr
    losses = client.metrics(waited.stdout.split()[0], ["test/loss"])["test/loss"].values
    assert f"test loss {losses[-1]:.4g}" in " ".join(waited.stderr.split())
    for shown in (waited.stdout, cli("show", "regression").stdout):
        assert f"best test/loss {min(losses):.4g}" in " ".join(shown.split())


def test_a_shown_spec_can_be_submitted_again(cli, finished, tmp_path):
    path = tmp_path / "again.json"
    path.write_text(cli("show", finished["id"], "--spec").stdout)
    assert cli("validate", str(path)).exit_code == 0


def test_fetch_writes_the_checkpoint_it_announces(cli, finished, tmp_path):
    result = cli("fetch", finished["id"], "-c", "last", "-o", str(tmp_path / "model.safetensors"), "--json")
    answer = json.loads(result.stdout)
    content = (tmp_path / "model.safetensors").read_bytes()
    assert answer["checkpoint"]["kind"] == "last"
    assert hashlib.sha256(content).hexdigest() == answer["checkpoint"]["sha256"]


def test_delete_takes_many(cli, spec_file):
    ids = [json.loads(cli("submit", str(spec_file), "--json").stdout)["id"] for _ in range(2)]
    assert cli("delete", *ids).exit_code == 3
    cli("cancel", *ids)
    assert cli("delete", *ids, "--json").exit_code == 0
    assert cli("show", ids[0]).exit_code == 3


def test_kinds_says_what_each_field_takes(cli):
    tables = dict(re.findall(r"^(\w+) *\n(field .*?)(?:\n\n|\Z)", cli("kinds", "networks").stdout, re.M | re.S))
    takes = {kind: " ".join(table.replace("\n", " \n ").split()) for kind, table in tables.items()}
    assert "depth 16 11, 13, 16, 19 Layers" in takes["vgg"]
    assert "dropout 0 >= 0, < 1 " in takes["vgg"]
    assert "bias auto true, false or auto " in takes["vgg"]
    assert "norm step_batch_norm layer_norm, none, sequence_batch_norm, step_batch_norm Inside" in takes["lstm"]
    assert "kernel_size 3 1, 3, 5, 7 " in takes["cnn"]
    assert "hidden [100] list of >= 1, <= 65536 Hidden" in takes["gru"]
    assert "patch - >= 1" in takes["transformer_encoder"]


@pytest.mark.parametrize(
    ("noun", "said"),
    [
        ("layer_nrm", "did you mean layer_norm?"),
        ("optimisers", "did you mean optimizers?"), ("xyz", "there are normalizers, networks"),
    ],
)  # fmt: skip
def test_kinds_says_what_was_probably_meant(cli, noun, said):
    refused = cli("kinds", noun)
    assert (refused.exit_code, said in " ".join(refused.stderr.split())) == (2, True)


@pytest.mark.parametrize("more", [[], ["--remote"]])
def test_kinds_shows_one_kind_with_its_fields(cli, more):
    for kind, choice in (("layer_norm", "normalizers"), ("layers", "networks"), ("digits", "data")):
        (alone,) = json.loads(cli("kinds", kind, "--json", *more).stdout)[choice]
        assert alone["kind"] == kind
        assert alone["schema"]["properties"]


@pytest.mark.parametrize("more", [[], ["--remote"]])
def test_kinds_lists_what_a_spec_may_choose(cli, more):
    assert "batch_renorm" in cli("kinds", *more).stdout
    assert "momentum" in cli("kinds", "normalizers", *more).stdout
    assert {kind["kind"] for kind in json.loads(cli("kinds", "networks", "--json", *more).stdout)["networks"]} >= {
        "mlp"
    }


def test_the_command_leaves_torch_alone():
    code = "import sys, client.cli, client.local.stack; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("module", ["stamina", "httpx"])
def test_a_script_without_its_extra_is_told_which_in_one_line(tmp_path, module):
    (tmp_path / "sitecustomize.py").write_text(f"import sys; sys.modules[{module!r}] = None\n")
    script = Path(sys.executable).with_name("bnlab")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    ended = subprocess.run([script, "list"], env=environment, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (3, "")
    assert ended.stderr.startswith("bnlab needs the extra client: pip install 'bnlab[client]'")
    assert ended.stderr.count("\n") == 1
