"""The data directory is its owner's alone, and one that cannot be is refused in a line."""

import os
from pathlib import Path

import pytest
from typer.testing import CliRunner

from client.cli import app
from client.local.owner_only import DirectoryUnusable
from client.local.places import Places

IS_ROOT = os.geteuid() == 0
NOBODY = 65_534


def modes(places: Places) -> set[int]:
    return {path.stat().st_mode & 0o777 for path in (places.data_dir, *places.data_dir.rglob("*"))}


def test_a_directory_that_was_open_is_closed_with_all_its_files(tmp_path):
    places = Places(tmp_path / "data")
    for directory in (places.data_dir, places.runs_dir, places.logs_dir):
        directory.mkdir(parents=True)
        directory.chmod(0o777)
    names = ["api_key", "lock", "logs/api.log", "logs/api.log.1"]
    names += [f"bnlab.sqlite3{suffix}" for suffix in ("", "-wal", "-shm")]
    for name in names:
        (places.data_dir / name).touch()
        (places.data_dir / name).chmod(0o644)
    assert places.create()
    assert modes(places) == {0o700, 0o600}
    assert not places.create()


def test_a_new_directory_is_closed_whatever_the_umask(tmp_path):
    before = os.umask(0)
    try:
        assert not Places(tmp_path / "new" / "data").create()
    finally:
        os.umask(before)
    assert modes(Places(tmp_path / "new" / "data")) == {0o700}


def test_a_directory_of_other_things_is_not_closed_under_other_users(tmp_path):
    tmp_path.chmod(0o755)
    (tmp_path / "a file of somebody").touch()
    with pytest.raises(DirectoryUnusable, match="holds other things"):
        Places(tmp_path).create()
    assert tmp_path.stat().st_mode & 0o777 == 0o755
    tmp_path.chmod(0o700)
    Places(tmp_path).create()


def test_a_directory_of_another_user_is_refused(tmp_path):
    directory = tmp_path / "theirs" if IS_ROOT else Path("/")
    if IS_ROOT:
        directory.mkdir()
        os.chown(directory, NOBODY, NOBODY)
        directory.chmod(0o700)
    with pytest.raises(DirectoryUnusable, match=r"belongs to user|holds other things"):
        Places(directory).create()


@pytest.mark.parametrize(
    ("data_dir", "reason"),
    [
        ("file", "there is a file in its place"),
        ("file/below", "there is a file in its place"),
        ("/proc/nothing", "cannot be"),
        ("~there is no such user/data", "cannot be the data directory"),
        ("runs is a file", "there is a file in its place"),
        ("lock is a directory", "Is a directory"),
        ("api_key is a directory", "Is a directory"),
    ],
)
def test_a_directory_that_cannot_be_used_is_one_line(tmp_path, monkeypatch, data_dir, reason):
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    for name in ("runs", "lock", "api_key"):
        places = Path(f"{name} is a {'file' if name == 'runs' else 'directory'}")
        places.mkdir(mode=0o700)
        (places / "runs").touch() if name == "runs" else (places / name).mkdir()
    result = CliRunner().invoke(app, ["up", "--port", "0", "--host", "0.0.0.0", "--data-dir", data_dir])
    assert isinstance(result.exception, SystemExit)
    assert (result.exit_code, result.stdout) == (3, "")
    *warned, complaint = result.stderr.splitlines()
    assert complaint.startswith("error: ")
    assert reason in complaint
    # What the address means is said before anything listens on it.
    assert not warned or "no TLS" in warned[0]


@pytest.mark.skipif(IS_ROOT, reason="nothing is unwritable to root")
def test_an_unwritable_place_is_one_line(tmp_path):
    (tmp_path / "closed").mkdir(mode=0o500)
    result = CliRunner().invoke(app, ["up", "--port", "0", "--data-dir", str(tmp_path / "closed" / "data")])
    assert result.exit_code == 3
    assert "Permission denied" in result.stderr


def test_an_unusable_default_is_one_line_for_every_command(monkeypatch):
    monkeypatch.setenv("BNLAB_DATA_DIR", "~there is no such user/data")
    monkeypatch.delenv("BNLAB_URL", raising=False)
    result = CliRunner().invoke(app, ["list"])
    assert isinstance(result.exception, SystemExit)
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "127.0.0.1", "localhost", "::1"])
def test_an_address_that_others_reach_is_said_in_words(tmp_path, host):
    (tmp_path / "file").touch()
    result = CliRunner().invoke(app, ["up", "--host", host, "--port", "0", "--data-dir", str(tmp_path / "file")])
    assert ("no TLS" in result.stderr) == (host not in ("127.0.0.1", "localhost", "::1"))
