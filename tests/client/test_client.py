"""`Client` against a real stack: what goes in, comes out."""

import hashlib
import math

import numpy as np
import pytest
from safetensors.numpy import load_file

from bncore.spec import load_spec
from client import ApiError, Client, ClientError, DownloadMismatch, WaitTimeout
from client.calls import is_terminal
from tests.client.answers import answering


def test_a_submitted_spec_comes_back_complete_and_can_be_submitted_again(client, idle_spec):
    first = client.submit(idle_spec)
    complete = client.get(first["id"])["spec"]
    assert load_spec(complete) == load_spec(idle_spec)
    assert client.submit(complete)["id"] != first["id"]


def test_a_validated_spec_object_is_submitted_as_it_is(client, idle_spec):
    parsed = load_spec(idle_spec)
    assert load_spec(client.submit(parsed)["spec"]) == parsed


def test_waiting_reports_progress_and_ends_with_the_results(observed, finished):
    assert (finished["state"], finished["stop_reason"]) == ("succeeded", "budget")
    steps = [each["progress"]["step"] for each in observed]
    assert steps == sorted(steps)
    assert steps[-1] == 120
    assert [is_terminal(each) for each in observed] == [False] * (len(observed) - 1) + [True]


def test_waiting_gives_up_in_time_and_leaves_the_experiment_as_it_is(client, idle_spec):
    experiment = client.submit(idle_spec)
    with pytest.raises(WaitTimeout) as gave_up:
        client.wait(experiment["id"], timeout_seconds=0.5)
    assert gave_up.value.results["state"] == "queued"
    assert client.get(experiment["id"])["state"] == "queued"


def test_a_running_experiment_that_is_cancelled_ends_with_a_checkpoint(client, long_spec):
    experiment, asked = client.submit(long_spec), []

    def cancel_once(results):
        if results["progress"]["step"] > 0 and not asked:
            asked.append(client.cancel(results["id"]))

    results = client.wait(experiment["id"], timeout_seconds=170, on_progress=cancel_once)
    assert (asked[0]["state"], results["state"]) == ("running", "cancelled")
    # The step may also have been the best.
    assert "last" in [entry["kind"] for entry in results["checkpoints"] if entry["step"] == results["progress"]["step"]]
    assert client.cancel(experiment["id"])["state"] == "cancelled"


def test_a_state_that_this_client_does_not_know_is_not_the_end():
    assert not is_terminal({"state": "migrating"})


def test_the_same_idempotency_key_gives_the_same_experiment(client, idle_spec):
    first, second = (client.submit(idle_spec, idempotency_key="test-same-key") for _ in range(2))
    assert first["id"] == second["id"]


def test_metrics_are_arrays_of_every_step(client, finished):
    series = client.metrics(finished["id"], ["train/loss", "test/accuracy"])
    np.testing.assert_array_equal(series["train/loss"].steps, np.arange(1, 121))
    assert series["test/accuracy"].steps.tolist() == [40, 80, 120]
    assert series["test/accuracy"].values[-1] == finished["summary"]["test_accuracy"]


def test_metrics_can_be_cut_and_thinned(client, finished):
    cut = client.metrics(finished["id"], ["lr"], first_step=11, last_step=20)["lr"]
    thinned = client.metrics(finished["id"], ["train/loss"], max_points=20)["train/loss"]
    assert cut.steps.tolist() == list(range(11, 21))
    assert len(thinned) <= 20 < thinned.count
    assert not thinned.complete


def test_numbers_that_json_has_no_word_for_are_numbers_in_python():
    spelt = {"loss": "NaN", "up": "Infinity", "down": "-Infinity", "steps": 3, "none": None}
    checkpoint = {"id": "ckp_1", "metrics": spelt}
    results = {"id": "exp_1", "name": "NaN", "state": "succeeded", "metrics": spelt, "summary": {"metrics": spelt}}

    def answer(_method, path):
        return 200, {"data": [checkpoint]} if path.endswith("checkpoints") else results | {"checkpoints": [checkpoint]}

    with answering(answer) as url, Client(url) as client:
        for found in (client.results("exp_1"), client.wait("exp_1")):
            parts = [found["metrics"], found["summary"]["metrics"], found["checkpoints"][0]["metrics"]]
            parts.append(next(client.checkpoints("exp_1"))["metrics"])
            for part in parts:
                assert math.isnan(part["loss"])
                assert (part["up"], part["down"], part["steps"], part["none"]) == (math.inf, -math.inf, 3, None)
            assert found["name"] == "NaN"


def test_events_come_in_order_from_submission_to_the_end(client, finished):
    events = list(client.events(finished["id"]))
    assert [event["number"] for event in events] == list(range(1, len(events) + 1))
    assert events[0]["kind"] == "submitted"


def test_a_listing_filters_and_spans_pages(client, idle_spec):
    tags = {"listing": "pages"}
    submitted = [client.submit(idle_spec | {"tags": tags})["id"] for _ in range(3)]
    found = [entry["id"] for entry in client.list(tags=["listing:pages"], page_size=1)]
    assert found == submitted[::-1]
    assert list(client.list(name="there is no such name")) == []


def test_a_download_is_whole_and_named_after_its_experiment(client, finished, tmp_path):
    best = next(entry for entry in client.checkpoints(finished["id"]) if entry["kind"] == "best")
    path = client.download(finished["id"], "best", tmp_path)
    assert path.parent == tmp_path
    assert finished["id"] in path.name
    assert hashlib.sha256(path.read_bytes()).hexdigest() == best["sha256"]
    assert any(name.endswith("weight") for name in load_file(path))
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("wrong", [{"sha256": "0" * 64}, {"size": 1}])
def test_a_download_that_is_not_as_announced_leaves_no_file(client, finished, tmp_path, wrong):
    announced = next(iter(client.checkpoints(finished["id"]))) | wrong
    with pytest.raises(DownloadMismatch):
        client.download(finished["id"], announced, tmp_path / "model.safetensors")
    assert list(tmp_path.iterdir()) == []


def test_a_checkpoint_that_does_not_exist_is_answered_with_those_that_do(client, finished):
    with pytest.raises(ClientError, match="best"):
        client.download(finished["id"], "ckp_nothing")


def test_what_has_ended_can_be_deleted_and_is_gone(client, idle_spec):
    experiment = client.submit(idle_spec)
    assert client.cancel(experiment["id"])["state"] == "cancelled"
    client.delete(experiment["id"])
    for call in (client.get, client.delete, client.results):
        with pytest.raises(ApiError) as gone:
            call(experiment["id"])
        assert gone.value.status == 404


def test_what_has_not_ended_cannot_be_deleted(client, idle_spec):
    experiment = client.submit(idle_spec)
    with pytest.raises(ApiError) as refused:
        client.delete(experiment["id"])
    assert refused.value.status == 409


@pytest.mark.parametrize("call", ["validate", "submit"])
def test_faults_are_listed_field_by_field(client, call):
    wrong = {
        "optimizer": {"kind": "sgd", "lr": float("nan")},
        "network": {"kind": "mlp", "norm": {"kind": "bach_norm"}},
    }
    with pytest.raises(ApiError) as refused:
        getattr(client, call)(wrong)
    assert refused.value.status == 422
    assert {fault.pointer for fault in refused.value.faults} == {"/optimizer/lr", "/network/norm/kind"}
    assert "/optimizer/lr: " in str(refused.value)


def test_validating_shows_layers_and_stores_nothing(client, spec):
    named = spec | {"name": "validated only"}
    checked = client.validate(named)
    assert checked["plan"]["parameters"] == (64 + 1) * 16 + 2 * 16 + (16 + 1) * 10
    assert list(client.list(name="validated only")) == []


def test_the_catalog_names_the_normalizers(client):
    assert {"none", "batch_norm", "batch_renorm"} <= {kind["kind"] for kind in client.catalog("normalizers")}


def test_readiness_is_in_words(client):
    assert {client.readyz()[word] for word in ("database", "broker", "relay", "workers")} == {"ok"}


def test_a_wrong_key_is_refused_at_once(stack):
    with pytest.raises(ApiError, match="401"), Client(stack.url, "bnl_wrong") as stranger:
        stranger.catalog("normalizers")


@pytest.mark.parametrize("experiment_id", ["", "..", "a/b", "exp_1?x=1", "a b"])
def test_what_is_not_an_id_never_becomes_another_request(client, experiment_id):
    with pytest.raises(ClientError, match="is not an id"):
        client.delete(experiment_id)


def test_the_environment_names_server_and_key(stack, monkeypatch):
    monkeypatch.setenv("BNLAB_URL", stack.url + "/")
    monkeypatch.setenv("BNLAB_API_KEY", stack.api_key)
    with Client() as client:
        assert client.url == stack.url
        assert client.catalog("losses")
