"""Images read as sequences, and examples held out."""

import pytest
import torch

from bncore.data import Batches, DataSet, load_data
from bncore.spec import DataSpec, SpecError, ValidationSpec, load_spec


def parsed(data: dict[str, object]) -> DataSpec:
    return load_spec(
        {"data": data, "network": {"kind": "mlp", "norm": {"kind": "none"}}, "train": {"batch_size": 2}}
    ).data


def load(**data: object) -> DataSet:
    return load_data(parsed({"kind": "digits", **data}))


def test_a_step_is_a_row_from_the_top() -> None:
    images, rows = load().train.inputs, load(**{"as": "row"}).train.inputs
    assert rows.shape == (1200, 8, 8)
    assert torch.equal(rows[:, 3], images[:, 0, 3])


def test_a_step_is_a_pixel_row_by_row() -> None:
    images, pixels = load().test.inputs, load(**{"as": "pixel"}).test.inputs
    assert pixels.shape == (597, 64, 1)
    assert torch.equal(pixels[:, 3 * 8 + 5, 0], images[:, 0, 3, 5])


def test_permuted_pixels_are_all_pixels_in_one_other_order() -> None:
    pixels, permuted = (load(**{"as": name}) for name in ("pixel", "permuted_pixel"))
    assert not torch.equal(pixels.train.inputs, permuted.train.inputs)
    assert torch.equal(pixels.train.inputs.sort(1).values, permuted.train.inputs.sort(1).values)
    # The same order in both parts: a pixel that is constant in one place is constant in one place.
    every = [torch.cat([data.train.inputs, data.test.inputs]).squeeze(2) for data in (pixels, permuted)]
    columns, shuffled = ({tuple(column) for column in one.T.tolist()} for one in every)
    assert columns == shuffled


def test_signal_and_sizes_are_those_of_the_data() -> None:
    for data in (
        {"kind": "digits", "as": "row", "validation": {"count": 130}},
        {"kind": "mnist5k", "as": "permuted_pixel", "validation": {"share": 0.1}},
        {"kind": "santurkar_linear", "features": 3, "examples": 7, "validation": {"share": 0.3}},
    ):
        spec = parsed(data)
        loaded, promised = load_data(spec), spec.shape()
        assert {name: tuple(part.inputs.shape) for name, part in loaded.parts.items()} == {
            "train": (promised.train_examples, *promised.input_shape),
            "validation": (promised.validation_examples, *promised.input_shape),
            "test": (promised.test_examples, *promised.input_shape),
        }
        assert loaded.outputs == promised.outputs


def test_held_out_examples_are_no_training_examples_and_the_test_part_stays() -> None:
    whole, held = load(), load(validation={"count": 123})
    rows = {name: [tuple(row) for row in part.inputs.flatten(1).tolist()] for name, part in held.parts.items()}
    assert sorted(rows["train"] + rows["validation"]) == sorted(
        tuple(row) for row in whole.train.inputs.flatten(1).tolist()
    )
    assert torch.equal(held.test.inputs, whole.test.inputs)
    # Inputs and labels stayed together.
    label = dict(zip(map(tuple, whole.train.inputs.flatten(1).tolist()), whole.train.targets.tolist(), strict=True))
    assert [label[row] for row in rows["validation"]] == held.validation.targets.tolist()


def test_each_class_gives_in_proportion_to_its_size() -> None:
    whole, held = load(), load(validation={"share": 0.25})
    expected = whole.train.targets.bincount() * 0.25
    assert len(held.validation.targets) == 300
    assert ((held.validation.targets.bincount() - expected).abs() < 1).all()


def test_another_seed_holds_out_others_and_the_same_seed_the_same() -> None:
    first, again, other = (load(validation={"count": 200, "seed": seed}).validation.inputs for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize(("share", "of", "count"), [(0.29, 100, 29), (0.57, 100, 57), (0.205, 1200, 246), (0.3, 7, 2)])
def test_a_share_is_that_of_the_number_as_it_is_written(share: float, of: int, count: int) -> None:
    # The product of 0.29 and 100 in binary is 28.999999999999996.
    assert ValidationSpec(share=share).examples(of) == count


def test_sequences_and_numbers_are_held_out_without_classes() -> None:
    data = load_data(parsed({"kind": "santurkar_linear", "validation": {"count": 10}}))
    assert (len(data.train.inputs), len(data.validation.inputs)) == (990, 10)


def test_a_whole_epoch_is_made_of_what_is_left() -> None:
    data = load(validation={"count": 1000})
    assert Batches(data.train, 60, seed=0).steps_per_epoch == 4


@pytest.mark.parametrize(
    ("data", "pointer", "code"),
    [
        ({"as": "rows"}, "/data/as", "literal_error"),
        ({"as_": "row"}, "/data/as_", "unknown_field"),
        ({"validation": {}}, "/data/validation/share", "share_or_count"),
        ({"validation": {"share": 0.1, "count": 5}}, "/data/validation/count", "share_or_count"),
        ({"validation": {"share": 1.0}}, "/data/validation/share", "less_than"),
        ({"validation": {"share": 1e-9}}, "/data/validation/share", "nothing_left"),
        ({"validation": {"count": 1200}}, "/data/validation/count", "nothing_left"),
        ({"validation": {"count": 1190}}, "/train/batch_size", "batch_larger_than_data"),
        ({"kind": "mnist"}, "/data/kind", "unknown_kind"),
        ({"kind": "variable_length", "min_length": 30}, "/data/max_length", "lengths_out_of_order"),
        ({"kind": "variable_length", "max_length": 100_000, "classes": 1000}, "/data/examples", "too_much_data"),
    ],
)
def test_what_cannot_be_is_refused_where_it_is_said(data: dict[str, object], pointer: str, code: str) -> None:
    with pytest.raises(SpecError) as refused:
        load_spec({"data": data})
    assert [(fault.pointer, fault.code) for fault in refused.value.faults] == [(pointer, code)]


def test_a_field_that_is_unknown_is_answered_with_those_in_documents() -> None:
    with pytest.raises(SpecError, match="did you mean as"):
        load_spec({"data": {"kind": "digits", "ass": "row"}})


@pytest.mark.parametrize(
    ("data", "network", "cured"),
    [
        ({"kind": "digits", "as": "row"}, "cnn", "leave as at image in /data"),
        ({"kind": "digits"}, "lstm", "as row in /data makes sequences of images"),
        ({"kind": "santurkar_linear"}, "cnn", "mlp and deep_linear take these"),
        ({"kind": "santurkar_linear"}, "gru", "mlp and deep_linear take these"),
        ({"kind": "santurkar_linear"}, "transformer_encoder", "mlp and deep_linear take these"),
        ({"kind": "variable_length"}, "cnn", "recurrent networks and transformer_encoder take these"),
        ({"kind": "variable_length"}, "mlp", "use a recurrent network"),
    ],
)
def test_a_network_that_can_make_nothing_of_the_data_is_refused_with_a_cure_that_they_have(
    data: dict[str, object], network: str, cured: str
) -> None:
    with pytest.raises(SpecError) as refused:
        load_spec({"data": data, "network": {"kind": network}})
    (fault,) = refused.value.faults
    assert (fault.pointer, fault.code) == ("/network/kind", "signal_does_not_fit")
    assert fault.detail.endswith(cured)


def test_a_batch_that_validation_left_too_few_examples_for_says_so() -> None:
    with pytest.raises(SpecError) as refused:
        load_spec({"data": {"kind": "digits", "validation": {"count": 1150}}})
    (fault,) = refused.value.faults
    assert (fault.pointer, fault.code) == ("/train/batch_size", "batch_larger_than_data")
    assert "50 training examples, without the 1150 held out for validation" in fault.detail


def test_a_spec_from_before_there_was_a_choice_means_digits() -> None:
    assert load_spec({"data": {}}).data == load_spec({}).data == parsed({"kind": "digits"})
