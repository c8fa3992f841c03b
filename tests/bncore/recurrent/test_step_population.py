"""Statistics of time steps measured, adapted and blended, against the frames that each step had in training."""

import copy

import pytest
import torch
from torch import Tensor, nn

from bncore.adapt import adabn, prediction_time, tent
from bncore.norm import recalibrate
from bncore.recurrent import BatchNormLSTM, StepBatchNorm
from tests.bncore.recurrent.oracle import BATCH_KINDS, equal_state, make, padded, run, sequences, step_norms, twin

LENGTHS = [(4, 2, 5, 3), (3, 3, 1), (5, 4)]


def data() -> list[tuple[Tensor, Tensor]]:
    return [padded(sequences(lengths, seed), padding=float("nan")) for seed, lengths in enumerate(LENGTHS)]


def through(layer: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    output: Tensor = layer(batch[0], None, batch[1])[0]
    return output


def frames_in_training(layer: nn.Module) -> list[dict[int, list[Tensor]]]:
    """Of each batch, what each norm saw, step by step, with the statistics of the batch."""
    reference = copy.deepcopy(layer).train()
    norms = [id(norm) for norm in step_norms(reference)]
    found = []
    for x, lengths in data():
        _, _, record = run(reference, [x[:length, n] for n, length in enumerate(lengths.tolist())])
        found.append({number: record.seen[norm] for number, norm in enumerate(norms)})
    return found


@pytest.mark.parametrize("max_length", [8, 3])
@pytest.mark.parametrize("kind", BATCH_KINDS)
def test_recalibrated_each_step_has_the_moments_of_all_its_frames(kind: str, max_length: int) -> None:
    layer = make(kind, max_length=max_length, bidirectional=True)
    before, found = twin(layer), frames_in_training(layer)
    recalibrate(layer, data(), forward=through)
    for number, (norm, old) in enumerate(zip(step_norms(layer), step_norms(before), strict=True)):
        for row in range(max_length):
            steps = slice(row, None if row == max_length - 1 else row + 1)
            frames = torch.cat([norm.running_mean[:0], *(step for one in found for step in one[number][steps])])
            if len(frames) < 2:
                assert torch.equal(norm.running_mean[row], old.running_mean[row])
                assert norm.num_batches_tracked[row] == old.num_batches_tracked[row]
                continue
            torch.testing.assert_close(norm.running_mean[row], frames.mean(0).detach(), rtol=1e-9, atol=1e-10)
            expected = frames.var(0, correction=1).detach()
            torch.testing.assert_close(norm.running_var[row], expected, rtol=1e-9, atol=1e-10)
            assert norm.num_batches_tracked[row] == max(1, int(old.num_batches_tracked[row]))


def test_a_layer_that_has_never_trained_evaluates_with_what_was_measured() -> None:
    layer, x = StepBatchNorm(4, 6).double(), torch.randn(3, 7, 4, dtype=torch.float64) * 3 + 1
    for sequential in (False, True):
        layer.reset_running_stats()
        recalibrate(layer, x.split(2, 1)[:-1], sequential=sequential)
        mean, var = x[:, :6].mean(1, keepdim=True), x[:, :6].var(1, correction=1, keepdim=True)
        expected = (layer.weight * (x - mean) / (var + layer.eps).sqrt()).detach()
        torch.testing.assert_close(layer.eval()(x), expected, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("kind", BATCH_KINDS)
def test_adapted_to_the_batch_it_gives_the_numbers_of_training_and_then_its_own_again(kind: str) -> None:
    layer, batch = make(kind).eval(), data()[0]
    before, expected = twin(layer), through(copy.deepcopy(layer).train(), batch)
    with prediction_time(layer):
        torch.testing.assert_close(through(layer, batch), expected, rtol=1e-10, atol=1e-10)
        with pytest.raises(ValueError, match="adapted already"):
            prediction_time(layer)
    assert torch.equal(through(layer, batch), through(before, batch))
    with adabn(layer, data(), forward=through, sequential=False):
        measured = recalibrate(twin(before), data(), forward=through)
        equal_state(layer, measured, 0.0)
    equal_state(layer, before, 0.0)


def test_blended_each_step_has_its_share_of_both_and_one_alone_the_running_ones() -> None:
    layer, x = StepBatchNorm(4, 3, gamma=1.0).double(), torch.randn(3, 5, 4, dtype=torch.float64)
    layer(x * 2 + 1)
    layer.eval()
    valid = torch.tensor([[True] * 5, [True, False, True, True, False], [True] + [False] * 4])
    expected = torch.empty_like(x)
    for step in range(3):
        own, mean, var = x[step][valid[step]], layer.running_mean[step], layer.running_var[step]
        if len(own) > 1:
            mean, var = 0.7 * mean + 0.3 * own.mean(0), 0.7 * var + 0.3 * own.var(0, correction=0)
        expected[step] = (x[step] - mean) / (var + layer.eps).sqrt()
    with prediction_time(layer, 0.3):
        torch.testing.assert_close(layer(x, valid)[valid], expected[valid].detach(), rtol=1e-10, atol=1e-10)


def test_tent_adapts_the_scales_of_steps() -> None:
    class Classifier(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = BatchNormLSTM(3, 4).double()

        def forward(self, x: Tensor) -> Tensor:
            outputs: Tensor = self.layer(x)[0]
            return outputs.mean(0)

    model, x = Classifier(), torch.randn(3, 6, 3, dtype=torch.float64)
    before, expected = copy.deepcopy(model.state_dict()), copy.deepcopy(model).train()(x)
    with tent(model) as adapted:
        torch.testing.assert_close(adapted(x), expected.detach(), rtol=1e-10, atol=1e-10)
        assert not torch.equal(model.layer.cells[0].norm_c.weight, before["layer.cells.0.norm_c.weight"])
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_one_sequence_and_statistics_that_depend_on_themselves_are_refused() -> None:
    layer, x = make("bn-lstm"), torch.randn(4, 1, 3, dtype=torch.float64)
    before = twin(layer)
    with pytest.raises(ValueError, match=r"norm_ih was given a batch of one value per channel"):
        recalibrate(layer, [x])
    with prediction_time(layer.eval()), pytest.raises(ValueError, match="more than 1 value per channel"):
        layer(x)
    with pytest.raises(ValueError, match="measure with sequential=False"):
        adabn(layer, [(torch.randn(4, 5, 3, dtype=torch.float64),)])
    equal_state(layer, before, 0.0)
    assert type(layer.cells[0].norm_hh) is StepBatchNorm
    assert not layer.training
