"""The main job, end to end: what a newcomer sees first."""

import json
import signal

import pytest

from bncore.spec import load_spec
from client.demo import ARMS, read_spec


@pytest.mark.system
def test_the_demo_trains_three_networks_and_leaves_nothing(bnlab, tmp_path):
    demo = bnlab("demo", "--json")
    output, _ = demo.process.communicate(timeout=150)
    complaint = (tmp_path / "stderr").read_text()
    assert demo.process.returncode == 0, complaint
    answer = json.loads(output)
    assert [row["normalization"] for row in answer["experiments"]] == list(ARMS)
    for row in answer["experiments"]:
        assert row["state"] == "succeeded"
        assert row["test_accuracy"] >= 0.9
        assert 0 < row["steps_to_target"] < 2000
        assert row["checkpoint_bytes"] > 0
    plain, *normalized = answer["experiments"]
    assert all(row["steps_to_target"] < plain["steps_to_target"] for row in normalized)
    assert len(answer["download"]["sha256"]) == 64
    demo.assert_nothing_left()
    assert list(tmp_path.glob("bnlab-demo-*")) == []


def test_the_arms_of_the_demo_differ_in_their_normalization_alone():
    arms = [load_spec(read_spec(arm)).model_dump(mode="json") for arm in ARMS]
    for arm in arms:
        del arm["name"], arm["tags"], arm["network"]["norm"]
    assert arms[0] == arms[1] == arms[2]


@pytest.mark.system
@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGKILL, -9)], ids=["interrupted", "killed"]
)
def test_a_demo_that_is_broken_off_leaves_no_process(bnlab, tmp_path, number, code):
    demo = bnlab("demo")
    # A look through all processes may take longer than the demo trains.
    demo.wait_told("Ready at")
    assert demo.end(number) == code, (tmp_path / "stderr").read_text()
    demo.assert_nothing_left()
    assert len(list(tmp_path.glob("bnlab-demo-*"))) == (1 if number is signal.SIGKILL else 0)
