"""Data sets by the command line: classes by their names, imports ended and begun again, deleted."""

import json
from pathlib import Path
from typing import Any


def test_classes_are_shown_by_name_and_an_import_is_asked_like_an_experiment(
    client: Any, cli: Any, tmp_path: Path
) -> None:
    rows = [f"{number % 2 + number / 100:.2f},{('owl', 'wren')[number % 2]}" for number in range(40)]
    (tmp_path / "birds.csv").write_text("\n".join(["size,bird", *rows]) + "\n")
    added = cli("dataset", "add", str(tmp_path / "birds.csv"), "--name", "birds", "--wait", "--json")
    assert added.exit_code == 0, added.stderr
    dataset = json.loads(added.stdout)
    data = {"kind": "dataset", "id": dataset["id"]}
    network = {"kind": "mlp", "hidden": [4], "norm": {"kind": "batch_norm"}}
    made = client.submit({"data": data, "network": network, "train": {"steps": 4, "batch_size": 8}})
    client.wait(made["id"], timeout_seconds=170)
    assert "classes: 0 owl, 1 wren" in cli("show", made["id"]).stdout
    measured = cli("evaluate", made["id"], "--data", dataset["id"], "--wait")
    assert measured.exit_code == 0, measured.stderr
    assert "0 owl" in measured.stdout
    assert "1 wren" in measured.stdout
    (found,) = client.evaluations(made["id"])
    assert found["result"]["class_names"] == ["owl", "wren"]
    assert [one["ending"] for one in client.attempts(dataset["id"])] == ["succeeded"]
    assert cli("attempts", found["id"]).exit_code == 0
    assert cli("logs", dataset["id"]).exit_code == 0
    # At its end: cancelling changes nothing, and there is nothing to try again.
    assert json.loads(cli("dataset", "cancel", "birds", "--json").stdout)["state"] == "succeeded"
    assert cli("dataset", "retry", "birds").exit_code == 3
    assert cli("dataset", "delete", "birds", "--yes").exit_code == 3, "two jobs read it"
    client.delete(made["id"])
    assert cli("delete", found["id"]).exit_code == 0
    assert cli("dataset", "delete", "birds", "--yes").exit_code == 0
    assert cli("dataset", "show", "birds").exit_code != 0


def test_a_file_is_called_as_it_is_called_from_the_upload_to_the_refusal(cli: Any, tmp_path: Path) -> None:
    name = "Größe der Häuser :house: (2).csv"
    (tmp_path / name).write_text("a;y\n1,500;u\n2,750;v\n")
    refused = cli("dataset", "add", str(tmp_path / name), "--wait")
    assert refused.exit_code == 1
    assert f"invalid_data: {name} has 1,500, which may be a fraction or thousands" in refused.stdout
    listed = cli("dataset", "list").stdout
    assert name in listed
    assert cli("dataset", "delete", name, "--yes").exit_code == 0
    lacking = cli("dataset", "add", str(tmp_path / f"no {name}"))
    assert f"no {name}" in " ".join(lacking.stderr.split())
