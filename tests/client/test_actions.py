"""What is asked of experiments, from Python and from the command line: to rest, go on, end, be called otherwise."""

import json
import os
import pty
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest

from client import ApiError, Client
from tests.api.trouble import until
from tests.client.answers import answering


def test_a_running_experiment_rests_goes_on_and_ends_without_a_moment(cli, client, long_spec):
    experiment_id, done = client.submit(long_spec)["id"], []

    def next_step(results):
        if results["state"] == "running" and results["progress"]["step"] and not done:
            done.append(cli("pause", experiment_id, "--json"))
        elif results["state"] == "paused" and len(done) == 1:
            done.append(cli("resume", experiment_id, "--json"))
        elif results["state"] == "running" and results["phase"] == "training" and len(done) == 2:
            done.append(cli("show", experiment_id))
            done.append(cli("kill", experiment_id, "--json"))

    results = client.wait(experiment_id, timeout_seconds=170, on_progress=next_step)
    assert [each.exit_code for each in done] == [0] * 4
    states = [json.loads(each.stdout)[0] for each in done if each is not done[2]]
    assert [(each["state"], each["desired"]) for each in states] == [
        ("running", "pause"), ("queued", None), ("running", "kill"),
    ]  # fmt: skip
    assert "attempt 2" in done[2].stdout
    assert results["state"] == "cancelled"
    listed = json.loads(cli("attempts", experiment_id, "--json").stdout)
    assert [entry["ending"] for entry in listed] == ["paused", "cancelled"]
    assert listed[1]["restored_step"] > 0
    assert "cancelled" in cli("attempts", experiment_id).stdout


def test_what_was_cancelled_is_queued_again_and_says_where_it_stands(cli, client, idle_spec):
    experiment_id = client.submit(idle_spec)["id"]
    refused = cli("retry", experiment_id)
    assert (refused.exit_code, refused.stdout) == (3, "")
    assert json.loads(cli("pause", experiment_id, "--json").stdout)[0]["state"] == "paused"
    client.cancel(experiment_id)
    assert cli("pause", experiment_id).exit_code == 3
    assert json.loads(cli("retry", experiment_id, "--json").stdout)[0]["state"] == "queued"
    place = client.get(experiment_id)["queue"]["position"]
    # A view waits for two tenths of a second at most to learn who is connected.
    words = f"no attempt yet, place {place} in the queue, waiting: a cuda worker; none is connected"
    until(lambda: words in cli("show", experiment_id).stdout)


def test_the_time_left_is_in_words(cli):
    running = {"id": "exp_" + "1" * 32, "state": "running", "tags": {}, "created_at": "2026-01-31T12:00:00Z"}
    running |= {"attempt": 3, "restarts": 1, "desired": "cancel", "eta_seconds": 7000.0, "checkpoints": []}
    running |= {"progress": {"step": 1, "total_steps": 2, "fraction": 0.5}, "summary": {}}
    with answering(lambda *_: (200, running)) as url:
        shown = cli("show", running["id"], "--url", url).stdout
    assert "attempt 3 (restarts: 1), asked to cancel, about 1.9 h left" in shown


def test_a_clone_is_the_same_but_for_what_was_set(cli, client, idle_spec):
    source = client.submit(idle_spec | {"name": "source", "tags": {"kept": "yes"}})
    assignments = ("--set=network.norm={kind: layer_norm}", "--set=optimizer.lr=0.25", "--set=name=null")
    cloned = cli("clone", source["id"], *assignments, "--json")
    assert cloned.exit_code == 0, cloned.stderr
    made = json.loads(cloned.stdout)
    assert (made["retry_of"], made["name"], made["tags"]) == (source["id"], None, {"kept": "yes"})
    assert made["spec"]["network"]["norm"]["kind"] == "layer_norm"
    assert made["spec"]["optimizer"] == source["spec"]["optimizer"] | {"lr": 0.25}
    assert made["spec"]["train"] == source["spec"]["train"]
    wrong = cli("clone", source["id"], "--set", "optimizer.lr=-1")
    assert wrong.exit_code == 3
    assert "/optimizer/lr" in wrong.stderr
    assert cli("clone", source["id"], "--set", "nonsense").exit_code == 2
    # In a patch null is the default, which is an hour.
    endless = cli("clone", source["id"], "--set", "stall_seconds=null")
    assert endless.exit_code != 0
    assert "cannot set that null" in endless.stderr
    assert cli("clone", source["id"], "--set", "deadline_seconds=null").exit_code == 0
    assert client.clone(source["id"])["spec"] == source["spec"]


def test_a_clone_is_seen_through_to_its_end(cli, finished):
    cloned = cli("clone", finished["id"], "--set=train.steps=80", "--set=tags={}", "--wait", "--json")
    assert cloned.exit_code == 0, cloned.stderr
    assert json.loads(cloned.stdout)["progress"]["step"] == 80


def test_name_and_tags_can_be_changed(cli, client, idle_spec):
    experiment_id = client.submit(idle_spec | {"name": "before", "tags": {"old": "1", "kept": "2"}})["id"]
    edited = cli("edit", experiment_id, "--name", "after", "--tag", "new:a:b", "--untag", "old", "--json")
    (experiment,) = json.loads(edited.stdout)
    assert (experiment["name"], experiment["tags"]) == ("after", {"kept": "2", "new": "a:b"})
    assert client.edit(experiment_id, name=None)["tags"] == experiment["tags"]
    assert client.get(experiment_id)["name"] is None
    assert cli("edit", experiment_id).exit_code == 2
    assert cli("edit", experiment_id, "--tag", "no colon").exit_code == 2
    both = cli("edit", experiment_id, "--tag", "new:b", "--untag", "new")
    assert both.exit_code == 2
    assert "takes away new" in both.stderr


def test_experiments_are_found_by_when_they_were_submitted(cli, client, idle_spec):
    tags = {"tags": {"found": "by time"}}
    made = [client.submit(idle_spec | tags) for _ in range(2)]
    moment = datetime.fromisoformat(made[1]["created_at"])
    assert [entry["id"] for entry in client.list(tags=["found"], created_before=moment)] == [made[0]["id"]]
    zone_less, later = moment.replace(tzinfo=None), moment + timedelta(hours=1)
    assert [entry["id"] for entry in client.list(tags=["found"], created_from=zone_less)] == [made[1]["id"]]
    assert list(client.list(tags=["found"], created_from=later)) == []
    today = datetime.now(UTC).date()
    for options, count in (
        (["--created-from", str(today - timedelta(days=1))], 2),
        (["--created-before", str(today - timedelta(days=1))], 0),
        (["--created-before", made[1]["created_at"], "--state", "queued", "--state", "failed"], 1),
    ):
        assert len(json.loads(cli("list", "--tag", "found", *options, "--json").stdout)) == count
    assert cli("list", "--created-from", "yesterday").exit_code == 2


def test_all_that_a_filter_finds_is_cancelled_and_deleted(cli, client, idle_spec):
    made = [client.submit(idle_spec | {"tags": {"bulk": name}})["id"] for name in ("a", "a", "b")]
    assert json.loads(cli("cancel", "--all", "--yes", "--tag", "bulk:a", "--json").stdout) == {"changed": 2}
    assert [client.get(each)["state"] for each in made] == ["cancelled", "cancelled", "queued"]
    deleted = cli("delete", "--all", "--yes", "--tag", "bulk", "--state", "cancelled", "--state", "failed")
    assert (deleted.exit_code, deleted.stdout) == (0, "2 experiments deleted\n")
    assert [entry["id"] for entry in client.list(tags=["bulk"])] == [made[2]]
    for said in ("1 experiment cancelled\n", "nothing matched\n"):
        assert cli("cancel", "--all", "--yes", "--tag", "bulk:b", "--state", "queued").stdout == said
    with pytest.raises(ApiError, match="422"):
        client.cancel_all()


def test_more_than_one_request_changes_are_all_changed():
    answers = [{"changed": 1000, "more": True}, {"changed": 7, "more": False}]
    asked = []

    def answer(method, path):
        asked.append((method, path))
        return 200, answers.pop(0)

    with answering(answer) as url, Client(url) as client:
        assert client.delete_all(everything=True) == 1007
    assert asked == [("POST", "/v1/experiments:delete?all=true")] * 2


def test_a_filter_that_there_is_not_is_no_filter_less():
    asked = []
    calls = [
        lambda client: client.delete_all(state="failed", tag="paper:1"),
        lambda client: client.cancel_all(everything=True, stat="queued"),
        lambda client: client.list(tag="paper:1"),
    ]
    with answering(lambda *request: asked.append(request) or (200, {})) as url, Client(url) as client:
        for call in calls:
            with pytest.raises(TypeError, match=r"there is no filter .*; there are state, tags, name, created_from"):
                call(client)
    assert asked == []


def test_one_word_is_one_and_not_its_letters(client, idle_spec):
    made = client.submit(idle_spec | {"tags": {"one": "word"}})["id"]
    assert [entry["id"] for entry in client.list(tags="one:word", state="queued")] == [made]
    assert list(client.metrics(made, "train/loss")) == ["train/loss"]
    assert client.create_key("one", scopes="read")["scopes"] == ["read"]


@pytest.mark.parametrize("words", [[], ["--tag", "a"], ["last", "--all"], ["last", "--state", "failed"]], ids=str)
@pytest.mark.parametrize("verb", ["cancel", "delete"])
def test_what_is_meant_has_to_be_said(cli, verb, words):
    result = cli(verb, *words)
    assert (result.exit_code, result.stdout) == (2, "")


@pytest.mark.parametrize("verb", ["cancel", "delete"])
def test_without_a_terminal_nothing_is_done_to_all_before_a_yes(cli, client, idle_spec, verb):
    experiment_id = client.submit(idle_spec | {"tags": {"unasked": verb}})["id"]
    if verb == "delete":
        client.cancel(experiment_id)
    before = client.get(experiment_id)["state"]
    refused = cli(verb, "--all", "--tag", f"unasked:{verb}", input="y\n")
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert "--yes" in refused.stderr
    assert client.get(experiment_id)["state"] == before
    assert "Without a terminal, --all needs it" in cli(verb, "--help", env={"COLUMNS": "400"}).stdout


@pytest.mark.parametrize("said", ["n", "y"])
def test_on_a_terminal_it_asks_before_all_are_deleted(stack, client, idle_spec, said):
    experiment_id = client.submit(idle_spec | {"tags": {"asked": said}})["id"]
    client.cancel(experiment_id)
    near, far = pty.openpty()
    try:
        os.write(near, f"{said}\n".encode())
        done = subprocess.run(
            [sys.executable, "-m", "client.cli", "delete", "--all", "--tag", f"asked:{said}", "--json"],
            stdin=far,
            capture_output=True,
            text=True,
            env={**os.environ, "BNLAB_URL": stack.url, "BNLAB_API_KEY": stack.api_key},
            check=False,
        )
    finally:
        os.close(near)
        os.close(far)
    assert "delete 1 experiment?" in done.stderr
    left = [entry["id"] for entry in client.list(tags=["asked:" + said])]
    if said == "y":
        assert (done.returncode, json.loads(done.stdout), left) == (0, {"changed": 1}, [])
    else:
        assert (done.returncode, done.stdout, left) == (130, "", [experiment_id])
