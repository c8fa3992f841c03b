"""What diagnostics found, from Python and from the command line, against a real stack."""

import json
from typing import Any

import numpy as np
import pytest

from client import ApiError

SPEC: dict[str, Any] = {
    "network": {"kind": "mlp", "hidden": [8, 8], "norm": {"kind": "batch_norm", "momentum": 0.001}},
    "train": {"steps": 30},
    "diagnostics": [
        {"kind": "activation_moments", "at": [0, 20], "examples": 32},
        {"kind": "gradient_norms", "examples": 32},
        {"kind": "norm_health", "full": True},
    ],
}


@pytest.fixture(scope="module")
def diagnosed(stack: Any) -> Any:
    with stack.client() as client:
        return client.wait(client.submit(SPEC)["id"], timeout_seconds=120)


def test_the_command_shows_norms_by_layer_what_is_wrong_and_what_others_found(cli: Any, diagnosed: Any) -> None:
    shown = cli("diagnose", diagnosed["id"])
    assert shown.exit_code == 0, shown.stderr
    assert "norm_health, step 30" in shown.stdout
    assert "activation_moments, step 20" in shown.stdout
    assert "momentum" in shown.stdout
    assert "diagnostics took" in shown.stdout
    (warning, *_) = diagnosed["warnings"]
    for command in ("diagnose", "show", "wait"):
        assert f"warning: {warning}" in cli(command, diagnosed["id"]).stdout
    one = cli("diagnose", diagnosed["id"], "activation_moments", "--step", "0")
    assert "activation_moments, step 0" in one.stdout
    assert "kurtosis" in one.stdout


def test_a_number_that_is_not_there_is_a_dash_and_said_to_be(cli: Any, client: Any, diagnosed: Any) -> None:
    # The network has three matrices, and growth but for the last needs four.
    assert np.isnan(client.diagnostic(diagnosed["id"], "gradient_norms")["scalars"]["hidden_growth"])
    shown = cli("diagnose", diagnosed["id"], "gradient_norms").stdout
    assert "hidden growth - 1" in " ".join(shown.split())
    assert "nan" not in shown
    assert "-: there is no such number" in shown
    whole = cli("diagnose", diagnosed["id"], "norm_health").stdout
    assert "nan" not in whole
    assert ("-: there is no such number" in whole) == (" - " in whole)


def test_of_a_short_run_it_is_said_what_was_not_measured_and_how_to_have_it(cli: Any, client: Any) -> None:
    short = client.wait(client.submit({**SPEC, "diagnostics": []})["id"], timeout_seconds=120)
    found = client.diagnostic(short["id"], "norm_health")
    assert np.isnan(found["arrays"]["gap"]["values"]).all()
    assert found["arrays"]["updates"]["values"].tolist() == [30.0, 30.0]
    assert "accuracy_batch" not in found["scalars"]
    passes, accuracies = found["notes"]
    assert "too short, 30 steps; from 200 on" in passes
    assert "too short, 30 steps of 60; from" in accuracies
    shown = " ".join(cli("diagnose", short["id"]).stdout.split())
    assert all(f"note: {note}" in shown for note in found["notes"])
    # What the layers themselves keep is said all the same.
    assert any("have seen 30 batches" in warning for warning in short["warnings"])


def test_what_is_missing_is_said_with_how_to_ask_for_it(cli: Any, diagnosed: Any, finished: Any) -> None:
    missing = cli("diagnose", diagnosed["id"], "step_probe")
    assert missing.exit_code == 3
    assert "it has activation_moments, gradient_norms, norm_health" in missing.stderr
    assert 'diagnostics: [{"kind": "step_probe", "at": [0]}]' in missing.stderr
    # What is no diagnostic is not for a spec.
    for name, meant in (("weight_norm", "did you mean weight_norms?"), ("foo", "there are norm_health, activation_mo")):
        wrong = cli("diagnose", diagnosed["id"], name)
        assert (wrong.exit_code, meant in wrong.stderr, "in the spec" in wrong.stderr) == (3, True, False)
    step = cli("diagnose", diagnosed["id"], "gradient_norms", "--step", "7")
    assert step.exit_code == 3
    assert "near are those of 0" in step.stderr


def test_programs_get_arrays(cli: Any, client: Any, diagnosed: Any) -> None:
    listed = {one["kind"]: one["steps"] for one in client.diagnostics(diagnosed["id"])}
    assert listed == {"activation_moments": [0, 20], "gradient_norms": [0], "norm_health": [30]}
    found = client.diagnostic(diagnosed["id"], "norm_health")
    names = [site["name"] for site in found["sites"]]
    gap = found["arrays"]["gap"]["values"]
    assert gap.shape == (len(names),)
    assert np.isfinite(gap).all()
    assert found["notes"] == []
    assert (found["scalars"]["examples_accuracy"], found["scalars"]["examples_precise"]) == (597, 256)
    assert found["scalars"]["warnings"] == len(diagnosed["warnings"])
    with pytest.raises(ApiError, match="There is no gradient_norms of step 5"):
        client.diagnostic(diagnosed["id"], "gradient_norms", 5)
    document = json.loads(cli("diagnose", diagnosed["id"], "--json").stdout)
    assert [one["kind"] for one in document["newest"]] == list(listed)
