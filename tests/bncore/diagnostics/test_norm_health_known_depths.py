"""Where depths are known, norm_health looks at the network itself: it finds the same, and leaves no trace."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from bncore.diagnostics import norm_health, running_statistics
from bncore.networks import build_network
from bncore.spec import data_shape, load_spec
from bncore.spec.blueprint import depths
from tests.bncore.diagnostics.test_no_trace import Breaks, network_and_batch, state
from tests.network_specs import KINDS, NORMS, small_spec


def known(kind: str, norm: str) -> dict[str, int]:
    parsed = load_spec(small_spec(kind, norm))
    shape = data_shape(parsed.data)
    return depths(parsed.network.blueprint(shape.signal, shape.outputs))


def seen(network: nn.Module) -> Iterator[Any]:
    """All that could be moved. Buffers may have been written, and written back; and what layers remember of passes
    without gradients is there behind any evaluation.
    """
    for entry in state(network):
        match entry:
            case (name, number, (dtype, content, _, place), *rest):
                yield name, number, dtype, content, place, *map(repr, rest)
            case (list() as attributes, int(), int()):
                yield attributes
            case _:
                yield entry


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in ("vgg", "transformer_encoder")])
@pytest.mark.parametrize("which", [0, 1])
def test_the_blueprint_says_what_a_pass_finds(kind: str, which: int) -> None:
    norm = (NORMS[kind][0], "layer_norm")[which]
    parsed = load_spec(small_spec(kind, norm))
    network, batch = network_and_batch(kind, norm)
    how: dict[str, Any] = {"lengths": batch.lengths, "earlier": running_statistics(network), "step": 7}
    before = list(seen(network))
    shape = data_shape(parsed.data)
    known = depths(parsed.network.blueprint(shape.signal, shape.outputs))
    quick = norm_health(network, batch.inputs, depths=known, **how)
    assert list(seen(network)) == before
    passed = norm_health(network, batch.inputs, **how)
    assert quick.recording.to_bytes() == passed.recording.to_bytes()
    assert quick.warnings == passed.warnings
    assert quick.recording.sites


@pytest.mark.parametrize("at", ["head", "between_layers", "embedding", "patches"])
def test_places_of_their_own_are_where_a_pass_finds_them(at: str) -> None:
    encoder = {"kind": "transformer_encoder", "width": 8, "heads": 2, "blocks": 1, "positions": "learned"}
    network = encoder if at in ("embedding", "patches") else {"kind": "lstm", "hidden": [4, 3], "bidirectional": True}
    places = {} if at == "patches" else {"norms_at": {at: {"kind": "batch_norm"}}}
    data = {"kind": "digits", "as": "image" if at == "patches" else "row"}
    more = {"patch": 2} if at == "patches" else {}
    spec = load_spec({"data": data, "network": {**network, **places, **more}})
    shape = data_shape(spec.data)
    built = build_network(spec.network, shape.signal, shape.outputs)
    x = torch.randn(6, *shape.signal.shape, generator=torch.Generator().manual_seed(0))
    quick = norm_health(built, x, depths=depths(spec.network.blueprint(shape.signal, shape.outputs)))
    assert quick.recording.sites == norm_health(built, x).recording.sites


def test_an_error_in_the_middle_leaves_no_trace_either() -> None:
    torch.manual_seed(0)
    breaks = Breaks(-1)
    network = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(inplace=True), breaks, nn.BatchNorm1d(6))
    x, places = torch.randn(9, 4), {"0": 1, "1": 1, "4": 1}
    network(x)
    before = list(seen(network))
    inputs = x.clone()
    breaks.left[0] = 0
    with pytest.raises(ZeroDivisionError):
        norm_health(network, x, depths=places)
    breaks.left[0] = -1
    # A layer that is not among them lies where the one does that it is a part of: here, the network.
    assert [site.depth for site in norm_health(network, x, depths={"1": 3}).recording.sites] == [3, 0]
    assert list(seen(network)) == before
    assert torch.equal(x, inputs)


def test_without_a_batch_it_says_what_the_layers_keep_and_nothing_else() -> None:
    network, batch = network_and_batch("cnn", "batch_renorm")
    earlier = running_statistics(network)
    network(batch.inputs)
    passed = norm_health(network, batch.inputs, earlier=earlier)
    for places in (known("cnn", "batch_renorm"), None):
        found = norm_health(network, None, earlier=earlier, depths=places)
        for name in ("mean_drift", "variance_drift", "non_finite", "updates", "updates_wanted"):
            np.testing.assert_array_equal(found.recording.arrays[name], passed.recording.arrays[name])
        for name in ("gap", "mean_gap", "variance_gap", "dead", "clipped_r", "clipped_d", "values"):
            assert np.isnan(found.recording.arrays[name]).all()
        assert {one.code for one in found.warnings} == {"few_updates"}
        assert found.recording.arrays["updates"].tolist() == [2.0] * len(found.recording.sites)
    with torch.no_grad():
        network.get_parameter("norm1.weight")[0] = torch.nan
    assert ("norm1", "not_finite") in [(one.layer, one.code) for one in norm_health(network, None).warnings]
