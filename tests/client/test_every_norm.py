"""Through the whole service, over HTTP: each normalization, in each network that admits it."""

import hashlib

import pytest

from tests.norm_specs import KINDS, admitted, network_with

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def test_every_normalization_is_offered_trained_and_handed_out(client, tmp_path):
    offered = {entry["kind"] for entry in client.catalog("normalizers")}
    assert offered == set(KINDS)
    train = {"train": {"steps": 5}, "evaluation": {"every_steps": 5}}
    asked = {
        (network, norm): client.submit({"network": network_with(network, norm), **train})["id"]
        for network in ("mlp", "cnn")
        for norm in admitted(network)
    }
    for experiment in asked.values():
        results = client.wait(experiment, timeout_seconds=600)
        assert results["state"] == "succeeded", results
        assert results["summary"]["steps"] == 5
        last = next(one for one in results["checkpoints"] if one["kind"] == "last")
        path = tmp_path / f"{experiment}.safetensors"
        client.download(experiment, last["id"], path)
        assert hashlib.sha256(path.read_bytes()).hexdigest() == last["sha256"]
