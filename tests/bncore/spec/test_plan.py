"""The torch-free plan: shapes, parameter counts, steps, and the combinations that cannot train."""

import pytest

from bncore.spec import SpecError, load_spec, plan


def refused(value: object) -> list[tuple[str, str]]:
    with pytest.raises(SpecError) as caught:
        load_spec(value)
    return [(fault.pointer, fault.code) for fault in caught.value.faults]


def test_an_mlp_is_counted_layer_by_layer() -> None:
    planned = plan(load_spec({"network": {"kind": "mlp", "hidden": [100], "dropout": 0.5}}))
    assert [(layer.name, layer.kind, layer.output_shape, layer.parameters) for layer in planned.layers] == [
        ("flatten", "flatten", (64,), 0),
        ("linear1", "linear", (100,), 64 * 100 + 100),
        ("norm1", "batch_norm", (100,), 200),
        ("activation1", "relu", (100,), 0),
        ("dropout1", "dropout", (100,), 0),
        ("output", "linear", (10,), 1010),
    ]
    assert planned.parameters == 6500 + 200 + 1010


def test_a_cnn_halves_its_image_at_each_pool() -> None:
    network = {
        "kind": "cnn",
        "channels": [4, 6],
        "placement": "after_activation",
        "bias": False,
        "normalize_input": True,
    }
    planned = plan(load_spec({"network": network}))
    assert [(layer.name, layer.output_shape) for layer in planned.layers] == [
        ("input_norm", (1, 8, 8)),
        ("conv1", (4, 8, 8)),
        ("activation1", (4, 8, 8)),
        ("norm1", (4, 8, 8)),
        ("pool1", (4, 4, 4)),
        ("conv2", (6, 4, 4)),
        ("activation2", (6, 4, 4)),
        ("norm2", (6, 4, 4)),
        ("pool2", (6, 2, 2)),
        ("global_pool", (6, 1, 1)),
        ("flatten", (6,)),
        ("output", (10,)),
    ]
    assert planned.parameters == 4 * 9 + 8 + 6 * 4 * 9 + 12 + 70


@pytest.mark.parametrize(
    ("train", "per_epoch", "total"),
    [
        ({"epochs": 3, "batch_size": 60}, 20, 60),
        ({"epochs": 3, "batch_size": 64}, 19, 57),
        ({"epochs": 3, "batch_size": 64, "drop_last": True}, 18, 54),
        ({"steps": 7, "batch_size": 1200}, 1, 7),
        ({}, 20, 400),
    ],
)
def test_steps_follow_from_epochs_and_batches(train: dict[str, object], per_epoch: int, total: int) -> None:
    planned = plan(load_spec({"train": train}))
    assert (planned.steps_per_epoch, planned.total_steps) == (per_epoch, total)


@pytest.mark.parametrize("norm", ["batch_norm", "batch_renorm"])
@pytest.mark.parametrize("batch_size", [1, 1199, 109])
def test_one_value_per_channel_is_refused_in_whole_and_partial_batches(norm: str, batch_size: int) -> None:
    """1200 = 1 x 1199 + 1 = 11 x 109 + 1: the last batch of an epoch would be a single sample."""
    value = {"network": {"kind": "mlp", "norm": {"kind": norm}}, "train": {"batch_size": batch_size}}
    assert refused(value) == [("/train/batch_size", "one_value_per_channel")]


def test_one_value_per_channel_is_fine_where_it_never_happens() -> None:
    load_spec({"train": {"batch_size": 1199, "drop_last": True}})
    load_spec({"train": {"batch_size": 1199, "steps": 1}})
    load_spec({"network": {"kind": "mlp", "norm": {"kind": "layer_norm"}}, "train": {"batch_size": 1}})
    load_spec({"network": {"kind": "cnn", "channels": [4]}, "train": {"batch_size": 1}})


def test_a_deep_cnn_meets_one_value_per_channel_where_its_image_is_a_single_pixel() -> None:
    # Three pools leave 1x1 behind the last block; with four the image is too small before any batch counts.
    network = {"kind": "cnn", "channels": [2, 2, 2], "placement": "before_activation"}
    load_spec({"network": network, "train": {"batch_size": 1}})
    assert refused({"network": {**network, "channels": [2, 2, 2, 2]}}) == [("/network/channels/3", "image_too_small")]


def test_normalized_input_counts_as_batch_statistics() -> None:
    network = {"kind": "mlp", "norm": {"kind": "none"}, "normalize_input": True}
    assert refused({"network": network, "train": {"batch_size": 1}}) == [("/train/batch_size", "one_value_per_channel")]


def test_groups_must_divide_the_channels_and_leave_more_than_one_value() -> None:
    norm = {"kind": "group_norm", "num_groups": 32}
    found = refused({"network": {"kind": "mlp", "hidden": [64, 100], "norm": norm}})
    assert found == [("/network/norm/num_groups", "groups_do_not_divide")]
    found = refused({"network": {"kind": "mlp", "hidden": [32], "norm": norm}})
    assert found == [("/network/norm/num_groups", "one_value_per_group")]
    load_spec({"network": {"kind": "cnn", "channels": [32, 64], "norm": norm}})


def test_layer_norm_over_a_single_value_is_refused() -> None:
    value = {"network": {"kind": "mlp", "hidden": [10, 1], "norm": {"kind": "layer_norm"}}}
    assert refused(value) == [("/network/hidden/1", "one_value_per_sample")]


def test_batches_budgets_and_sizes_have_limits() -> None:
    assert refused({"train": {"batch_size": 1201}}) == [("/train/batch_size", "batch_larger_than_data")]
    assert refused({"train": {"epochs": 1_000_000, "batch_size": 2}}) == [("/train/epochs", "budget_too_long")]
    assert refused({"schedule": {"kind": "constant", "warmup_steps": 400}}) == [
        ("/schedule/warmup_steps", "warmup_longer_than_budget")
    ]
    assert refused({"network": {"kind": "mlp", "hidden": [10_000, 10_000]}}) == [
        ("/network/hidden", "too_many_parameters")
    ]
