"""Sequence-wise batch norm (arXiv 1510.01378): batch norm over all valid frames, whatever the form of the sequences."""

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence, pad_sequence

from bncore.recurrent import SequenceBatchNorm
from tests.bncore.recurrent.oracle import RAGGED, equal_state, padded, sequences, twin


def prepared(dtype: torch.dtype = torch.float64, **options: object) -> SequenceBatchNorm:
    """No parameter or statistic at a value that hides a mistake."""
    norm = SequenceBatchNorm(3, **options).double()
    with torch.no_grad():
        norm.weight.copy_(torch.tensor([0.7, 1.4, -0.3]))
        norm.bias.copy_(torch.tensor([0.2, -0.5, 0.1]))
        norm.running_mean.copy_(torch.tensor([0.5, -0.1, 0.9]))
        norm.running_var.copy_(torch.tensor([2.0, 0.6, 1.3]))
    return norm.to(dtype)


def differentiated(y: Tensor, x: Tensor, norm: nn.Module) -> list[Tensor]:
    """y, first derivatives of a sum of sines, and derivatives of those once more."""
    inputs = [x, norm.weight, norm.bias]
    weights = torch.linspace(-1.0, 1.0, y.numel()).double().view(y.shape)
    first = torch.autograd.grad((y.sin() * weights).sum(), inputs, create_graph=True)
    second = torch.autograd.grad(sum(grad.cos().sum() for grad in first), inputs)
    return [one.detach() for one in (y, *first, *second)]


@pytest.mark.parametrize("mode", ["training", "evaluation"])
@pytest.mark.parametrize("form", ["lengths", "batch first", "packed"])
def test_it_is_batch_norm_of_the_valid_frames(form: str, mode: str) -> None:
    norm = prepared(batch_first=form == "batch first").train(mode == "training")
    reference = twin(norm)
    x, lengths = padded(sequences(RAGGED), padding=0.0 if form == "packed" else float("nan"))
    x.requires_grad_()
    frames = torch.cat([x[:length, n] for n, length in enumerate(RAGGED)])
    mean, var = frames.mean(0), frames.var(0, correction=0)
    if mode == "evaluation":
        mean, var = reference.running_mean, reference.running_var
    normalized = reference.weight * (frames - mean) / torch.sqrt(var + reference.eps) + reference.bias
    expected = differentiated(pad_sequence(normalized.split(RAGGED)), x, reference)
    if form == "packed":
        packed = norm(pack_padded_sequence(x, lengths, enforce_sorted=False))
        y = pad_packed_sequence(packed)[0]
    elif form == "batch first":
        y = norm(x.transpose(0, 1), lengths).transpose(0, 1)
    else:
        y = norm(x, lengths)
    for mine, theirs in zip(differentiated(y, x, norm), expected, strict=True):
        assert (mine - theirs).abs().max() <= 1e-10 * theirs.abs().max().clamp_min(1.0)
    if mode == "training":
        for name, newest in (("running_mean", frames.mean(0)), ("running_var", frames.var(0, correction=1))):
            moved = 0.9 * getattr(reference, name) + 0.1 * newest.detach()
            torch.testing.assert_close(getattr(norm, name), moved, rtol=1e-10, atol=1e-12)
    assert norm.num_batches_tracked == (mode == "training")


@pytest.mark.parametrize("momentum", [0.1, None])
@pytest.mark.parametrize("given", [False, True], ids=["no lengths", "full lengths"])
def test_over_sequences_of_one_length_it_is_torch_on_all_frames(momentum: float | None, given: bool) -> None:
    norm, theirs = prepared(momentum=momentum), nn.BatchNorm1d(3, momentum=momentum).double()
    theirs.load_state_dict(norm.state_dict(), strict=True)
    for seed in range(50):
        x = torch.stack(sequences((4,) * 5, seed), 1)
        y = norm(x, torch.full((5,), 4)) if given else norm(x)
        torch.testing.assert_close(y.flatten(0, 1), theirs(x.flatten(0, 1)), rtol=1e-11, atol=1e-11)
    equal_state(norm, theirs, 1e-11)
    torch.testing.assert_close(norm(x[:, 0]), theirs(x[:, 0]), rtol=1e-11, atol=1e-11)


def test_packed_sequences_stay_packed_in_their_order() -> None:
    x, lengths = padded(sequences(RAGGED))
    packed = pack_padded_sequence(x.float(), lengths, enforce_sorted=False)
    y = prepared(torch.float32)(packed)
    assert torch.equal(y.batch_sizes, packed.batch_sizes)
    assert torch.equal(y.sorted_indices, packed.sorted_indices)
    assert torch.equal(y.unsorted_indices, packed.unsorted_indices)


@pytest.mark.parametrize("poison", [float("nan"), float("inf"), 1e30], ids=str)
@pytest.mark.parametrize("mode", ["training", "evaluation"])
def test_padding_reaches_no_gradient(poison: float, mode: str) -> None:
    results = []
    for padding in (0.0, poison):
        norm = prepared().train(mode == "training")
        x, lengths = padded(sequences(RAGGED), padding)
        x.requires_grad_()
        norm(x, lengths).sin().sum().backward()
        results.append([x.grad, norm.weight.grad, norm.bias.grad, *norm.buffers()])
    for mine, theirs in zip(*results, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_half_precision_keeps_its_type(dtype: torch.dtype) -> None:
    norm = prepared(torch.float32)
    x, lengths = padded(sequences(RAGGED))
    wide = twin(norm)(x.to(dtype).float(), lengths)
    y = norm(x.to(dtype), lengths)
    assert y.dtype == dtype
    torch.testing.assert_close(y.float(), wide, rtol=2**-7, atol=2**-7)


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_compiled_and_in_an_ensemble_it_gives_the_same() -> None:
    torch._dynamo.reset()
    members = [prepared() for _ in range(2)]
    x = torch.stack([padded(sequences((4,) * 3, seed))[0] for seed in range(2)])
    lengths = torch.tensor([4, 2, 3])
    parameters, buffers = torch.func.stack_module_state(members)
    template = copy.deepcopy(members[0]).to("meta")

    def step(parameters: dict[str, Tensor], buffers: dict[str, Tensor], x: Tensor) -> Tensor:
        return torch.func.functional_call(template, {**parameters, **buffers}, (x, lengths))

    y = torch.func.vmap(step)(parameters, buffers, x)
    for number, member in enumerate(members):
        other = twin(member)
        compiled = torch.compile(other, backend="aot_eager_decomp_partition", fullgraph=True)
        expected = member(x[number], lengths)
        torch.testing.assert_close(y[number], expected, rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(compiled(x[number], lengths), expected, rtol=1e-10, atol=1e-10)
        equal_state(member, other, 1e-10)
        for name, buffer in member.named_buffers():
            torch.testing.assert_close(buffers[name][number], buffer, rtol=1e-10, atol=1e-12)


def test_lengths_that_do_not_fit_are_refused() -> None:
    norm = prepared()
    x, lengths = padded(sequences(RAGGED))
    for arguments in ((x, lengths[:4]), (x.transpose(0, 1), lengths), (x[:, 0], lengths)):
        with pytest.raises(ValueError, match="do not fit"):
            norm(*arguments)
    with pytest.raises(ValueError, match="know their lengths"):
        norm(pack_padded_sequence(x, lengths, enforce_sorted=False), lengths)
    with pytest.raises(ValueError, match="2 or 3 axes"):
        norm(x.unsqueeze(0))
    with pytest.raises(ValueError, match="more than 1 value"):
        norm(x[:1, :1])


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("kind", [Tensor, type("Tagged", (Tensor,), {})])
def test_an_activation_behind_it_may_work_in_place(kind: type[Tensor], batch_first: bool) -> None:
    norm = prepared(batch_first=batch_first)
    x, lengths = padded(sequences(RAGGED))
    x = x.transpose(0, 1).contiguous() if batch_first else x
    apart = [torch.zeros_like(x) for _ in range(2)]
    for gradient, in_place in zip(apart, (False, True), strict=True):
        leaf = x.as_subclass(kind).requires_grad_() if in_place else x.clone().requires_grad_()
        y = twin(norm)(leaf, lengths)
        (y.relu_() if in_place else y.relu()).square().sum().backward()
        gradient.copy_(leaf.grad)
    assert apart[0].count_nonzero() > 0
    assert torch.equal(*apart)
