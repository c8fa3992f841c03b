"""What a server says is shown, never obeyed: not by the terminal, and not by the file system."""

import hashlib
import json

import pytest
from typer.testing import CliRunner

from client import Client, ClientError
from client.cli import app
from client.printable import one_line, printable
from tests.client.answers import answering

EVIL = "\x1b]0;title\x07\x1b[2J\x9b31m\u202eevil\u2066\r\n\x00\x7f\u2028[/red]\ud800"
ID = "exp_" + "0" * 32
WEIGHTS = b"weights"
CHECKPOINT = {
    "id": "ckp_1",
    "kind": f"../../{EVIL}/best",
    "step": 3,
    "size": len(WEIGHTS),
    "sha256": hashlib.sha256(WEIGHTS).hexdigest(),
    "metrics": {EVIL: 1.0},
}
PROGRESS = {"step": 1, "total_steps": 2, "fraction": 0.5}
EXPERIMENT = {
    "id": EVIL,
    "name": EVIL,
    "tags": {EVIL: EVIL},
    "state": EVIL,
    "device": EVIL,
    "created_at": EVIL,
    "progress": PROGRESS,
    "spec": {"name": EVIL},
    "attempt": EVIL,
    "restarts": EVIL,
    "queue": {"position": EVIL, "ahead_capped": True},
    "waiting_for": EVIL,
    "desired": EVIL,
    "eta_seconds": EVIL,
    "warnings": [{"pointer": EVIL, "detail": EVIL, "code": EVIL}],
}
RESULTS = EXPERIMENT | {
    "id": ID,
    "state": "failed",
    "stop_reason": EVIL,
    "phase": EVIL,
    "failure": {"code": EVIL, "message": EVIL},
    "summary": {EVIL: EVIL},
    "metrics": {EVIL: 1.0},
    "checkpoints": [CHECKPOINT],
}
ATTEMPT = {"number": EVIL, "claimed_at": EVIL, "device_model": EVIL, "ended_at": EVIL, "code": EVIL, "message": EVIL}
WORKER = {"host": EVIL, "device": EVIL, "working_on": EVIL, "since": EVIL, "trouble": EVIL}
KEY = {"id": "key_1", "name": EVIL, "owner": EVIL, "scopes": [EVIL], "expires_at": EVIL, "secret": EVIL}
OWNER = {"id": EVIL, "name": EVIL, "queued_jobs": EVIL, "limits": {"queued_jobs": EVIL}}
EVENT = {"at": EVIL, "kind": EVIL, "message": EVIL, "data": {EVIL: EVIL}}
KIND = {"kind": EVIL, "description": EVIL, "schema": {"properties": {EVIL: {"default": EVIL, "description": EVIL}}}}
LAYER = {"name": EVIL, "kind": EVIL, "output_shape": [1], "parameters": 1}
PLAN = {"layers": [LAYER], "parameters": 1, "total_steps": 1, "steps_per_epoch": 1, "train_examples": 1}
PROBLEM = {"title": EVIL, "detail": EVIL, "errors": [{"pointer": EVIL, "detail": EVIL, "code": EVIL}]}
CELL = {"mean": 1.0, "sd": None, "n": 1, "not_reached": 1, "diverged": 0, "not_finite": 0, "missing": 0}
GROUP = {"where": {EVIL: EVIL}, "measures": {EVIL: CELL}, "n": 1, "stop_reasons": {EVIL: 1}, "unfinished": {EVIL: 1}}
GROUP |= {"runs": [{"id": EVIL, "seed": 0, "state": EVIL, "stop_reason": EVIL, "values": {EVIL: 1.0}}]}
COMPARED = {"paths": [EVIL, "b"], "following": {"b": EVIL}, "measures": [EVIL], "groups": [GROUP], "warnings": [EVIL]}
ANSWERS = {
    "/v1/comparisons": COMPARED,
    "/v1/experiments:validate": {"spec": {"name": EVIL}, "plan": PLAN},
    "/v1/normalizers": {"data": [KIND]},
    "/metrics": {"series": {EVIL: {"steps": [1], "values": ["NaN"]}}},
    "/events": {"data": [EVENT]},
    "/checkpoints": {"data": [CHECKPOINT]},
    "/content": WEIGHTS,
    "/results": RESULTS,
    "/cancel": EXPERIMENT,
    ":cancel": {"changed": 1, "more": False},
    "/pause": EXPERIMENT,
    "/attempts": {"data": [ATTEMPT]},
    "/logs": EVIL.replace("\ud800", "").encode(),
    "/v1/workers": {"data": [WORKER]},
    "/v1/keys": {"data": [KEY]},
    "/rotate": KEY,
    "/v1/owners/me": OWNER,
}
COMMANDS = [
    ("list",),
    ("show", ID, "--events"),
    ("show", "an ambiguous name"),
    ("metrics", ID),
    ("compare", ID),
    ("compare", ID, "--csv"),
    ("fetch", ID, "-c", CHECKPOINT["id"]),
    ("fetch", ID, "-c", EVIL),
    ("wait", ID),
    ("cancel", ID),
    ("cancel", "--all", "--yes"),
    ("pause", ID),
    ("retry", ID),
    ("edit", ID, "--name", "new"),
    ("clone", ID),
    ("attempts", ID),
    ("logs", ID),
    ("workers",),
    ("owner",),
    ("keys", "list"),
    ("keys", "create", "new"),
    ("keys", "rotate", KEY["id"]),
    ("keys", "revoke", "no such key"),
    ("delete", ID),
    ("submit", "spec.json"),
    ("submit", "spec.json", "--wait"),
    ("validate", "spec.json", "--remote"),
    ("kinds", "normalizers", "--remote"),
]


def answer(method, path):
    path = path.partition("?")[0]
    if (method, path) == ("POST", "/v1/keys"):
        return 201, KEY
    if path == "/v1/experiments":
        return (202, EXPERIMENT | {"id": ID}) if method == "POST" else (200, {"data": [EXPERIMENT] * 2})
    if method == "DELETE":
        return 204, b""
    return 200, next((body for end, body in ANSWERS.items() if path.endswith(end)), EXPERIMENT | {"id": ID})


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Run a command against a server in an empty folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "spec.json").write_text("{}")
    monkeypatch.setenv("COLUMNS", "500")
    monkeypatch.setenv("BNLAB_API_KEY", "bnl_secret")
    return lambda url, *arguments: CliRunner().invoke(app, [*arguments, "--url", url])


def assert_harmless(result):
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    shown = result.stdout + result.stderr
    assert [char for char in shown if not char.isprintable() and char != "\n"] == []
    assert "bnl_secret" not in shown


@pytest.mark.parametrize("more", [[], ["--json"]], ids=str)
@pytest.mark.parametrize("command", COMMANDS, ids=lambda words: ascii(" ".join(words[:2])))
def test_no_command_passes_a_control_character_on(run, command, more):
    with answering(answer) as url:
        result = run(url, *command, *more)
    assert_harmless(result)
    assert result.stdout + result.stderr
    if more and result.stdout:
        json.loads(result.stdout)


@pytest.mark.parametrize("command", COMMANDS, ids=lambda words: ascii(" ".join(words[:2])))
@pytest.mark.parametrize("status", [400, 401, 422])
def test_no_error_passes_a_control_character_on(run, command, status):
    with answering(lambda *_: (status, PROBLEM)) as url:
        result = run(url, *command)
    assert_harmless(result)
    assert result.exit_code != 0
    assert "x1b" in result.stderr


def test_a_download_stays_in_its_folder_whatever_its_kind(run, tmp_path):
    with answering(answer) as url:
        folder = tmp_path / "a" / "b"
        folder.mkdir(parents=True)
        with Client(url) as client:
            path = client.download(ID, CHECKPOINT["id"], folder)
    assert path.parent == folder
    assert list(tmp_path.rglob("*.safetensors")) == [path]
    assert path.read_bytes() == WEIGHTS
    assert set(path.name) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")


def test_a_checkpoint_whose_id_is_a_path_is_not_fetched(tmp_path):
    with answering(answer) as url, Client(url) as client, pytest.raises(ClientError, match="is not an id"):
        client.download(ID, CHECKPOINT | {"id": "../../experiments"}, tmp_path)


def test_more_bytes_than_announced_are_not_kept(tmp_path):
    with answering(answer) as url, Client(url) as client, pytest.raises(ClientError, match="more bytes came"):
        client.download(ID, CHECKPOINT | {"size": 2}, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_what_is_escaped_is_still_to_be_read():
    assert one_line("a\nb\x1b[1m\u202eü") == "a\\nb\\x1b[1m\\u202eü"
    assert printable("a\n\tb\r") == "a\n\tb\\r"
    # Joiners hold words and emoji together.
    assert one_line("👩\u200d🔬 می\u200cخواهم") == "👩\u200d🔬 می\u200cخواهم"


@pytest.mark.parametrize("name", ["../../up", "/etc/passwd", "..", EVIL, "plain.csv"])
def test_what_a_file_is_called_does_not_lead_out_of_the_folder(tmp_path, name):
    file = {"id": "fil_1", "name": name, "size": len(WEIGHTS), "sha256": hashlib.sha256(WEIGHTS).hexdigest()}
    inner = tmp_path / "inner"
    inner.mkdir()
    with (
        answering(lambda _, path: (200, WEIGHTS if path.endswith("/content") else file)) as url,
        Client(url, api_key="bnl_secret") as client,
    ):
        path = client.download_file("fil_1", inner)
    assert [*tmp_path.rglob("*")] == [inner, path]
    assert (path.parent, path.read_bytes()) == (inner, WEIGHTS)
    assert path.name == name or name != "plain.csv"


def test_a_file_of_other_bytes_than_announced_is_not_kept(tmp_path):
    file = {"id": "fil_1", "name": "a", "size": len(WEIGHTS), "sha256": "0" * 64}
    with (
        answering(lambda _, path: (200, WEIGHTS if path.endswith("/content") else file)) as url,
        Client(url, api_key="bnl_secret") as client,
        pytest.raises(ClientError, match="sha256"),
    ):
        client.download_file("fil_1", tmp_path)
    assert [*tmp_path.iterdir()] == []
