"""Masked batch norm: padding does not count, does not matter, and gets nothing; without it, plain batch norm."""

from collections.abc import Callable, Iterator

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

from bncore.norm.masked_batch_norm import MaskedBatchNorm
from tests.bncore.norm.case import affine, sample, twin

RANKS = {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d, 5: nn.BatchNorm3d}
GARBAGE = [float("nan"), float("inf"), 1e30]
LENGTHS = torch.tensor([9, 7, 4, 4, 1, 0])
jit_is_deprecated = pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")


def layer_of(channels: int = 4, **options: object) -> MaskedBatchNorm:
    """A layer in double precision that has no parameter or statistic at a value that hides a mistake."""
    layer = MaskedBatchNorm(channels, **options).double()
    with torch.no_grad():
        for index, tensor in enumerate([*layer.parameters(), layer.running_mean, layer.running_var]):
            tensor.add_(0.3 * sample((channels,), seed=index).abs())
    return layer


def sequences(seed: int = 1, channels: int = 4) -> tuple[Tensor, Tensor]:
    """Six sequences of up to nine steps (N, C, L), and their mask."""
    return sample((6, channels, 9), seed), torch.arange(9) < LENGTHS.unsqueeze(1)


def gradients(y: Tensor, x: Tensor, layer: nn.Module, **options: bool) -> list[Tensor]:
    """Those of x and the parameters for a gradient of the output that differs everywhere."""
    return list(torch.autograd.grad(y, [x, *layer.parameters()], y.detach().cos(), **options))


def spelled_out(layer: MaskedBatchNorm, x: Tensor, mask: Tensor) -> Tensor:
    """Output and gradients of an ensemble of one, which takes the primitive path; the layer's statistics move."""

    def run(state: dict[str, Tensor], x: Tensor, mask: Tensor) -> Tensor:
        return torch.func.functional_call(layer, state, (x, mask))

    x = x.detach().requires_grad_()
    state = {name: tensor.unsqueeze(0) for name, tensor in [*layer.named_parameters(), *layer.named_buffers()]}
    y = torch.func.vmap(run)(state, x.unsqueeze(0), mask.unsqueeze(0)).squeeze(0)
    return torch.cat([tensor.detach().flatten() for tensor in (y, *gradients(y, x, layer))])


def all_true(x: Tensor) -> dict[str, Tensor]:
    return {"mask": torch.ones(x.shape[0], *x.shape[2:], dtype=torch.bool)}


def full_lengths(x: Tensor) -> dict[str, Tensor]:
    return {"lengths": torch.full((len(x),), x.shape[2])}


@pytest.mark.parametrize(
    ("rank", "valid", "options"),
    [
        *((rank, all_true, {}) for rank in RANKS),
        (3, full_lengths, {}),
        (4, lambda x: {}, {}),
        *((4, all_true, options) for options in ({"momentum": None}, {"affine": False}, {"nan_guard": True})),
    ],
)
def test_where_all_is_valid_fifty_steps_equal_torch(
    rank: int, valid: Callable[[Tensor], dict[str, Tensor]], options: dict[str, object]
) -> None:
    mine = MaskedBatchNorm(5, **options)
    theirs = RANKS[rank](5, **{name: value for name, value in options.items() if name != "nan_guard"})
    for step in range(50):
        for layer in (mine, theirs):
            layer.train(step % 10 != 9)
        data = sample((7, 5, *(3,) * (rank - 2)), seed=step).float()
        x, other = data.clone().requires_grad_(), data.clone().requires_grad_()
        y, expected = mine(x, **valid(x)), theirs(other)
        torch.testing.assert_close(y, expected, rtol=1e-6, atol=1e-6)
        for own, its in zip(gradients(y, x, mine), gradients(expected, other, theirs), strict=True):
            torch.testing.assert_close(own, its, rtol=1e-5, atol=1e-5)
    for name, value in theirs.state_dict().items():
        torch.testing.assert_close(mine.state_dict()[name], value, rtol=1e-6, atol=1e-6, msg=name)


@pytest.mark.parametrize("mode", ["training", "evaluation"])
def test_it_equals_batch_norm_of_packed_sequences(mode: str) -> None:
    layer, packed_layer = layer_of().train(mode == "training"), nn.BatchNorm1d(4).double()
    packed_layer.load_state_dict(layer.state_dict())
    packed_layer.train(layer.training)
    x, _ = sequences()
    x = x[:5].requires_grad_()
    lengths = LENGTHS[:5]
    packed = packed_layer(pack_padded_sequence(x.movedim(1, 2), lengths, batch_first=True).data)
    expected = torch.autograd.grad(packed.sin().sum(), [x, *packed_layer.parameters()])
    y = layer(x, lengths=lengths)
    again = pack_padded_sequence(y.movedim(1, 2), lengths, batch_first=True).data
    torch.testing.assert_close(again, packed, rtol=1e-12, atol=1e-12)
    actual = torch.autograd.grad(y.sin().sum(), [x, *layer.parameters()])
    for mine, theirs in zip(actual, expected, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-11, atol=1e-11)
    for name, value in packed_layer.state_dict().items():
        torch.testing.assert_close(layer.state_dict()[name], value, rtol=1e-12, atol=1e-12, msg=name)


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
@pytest.mark.parametrize("compiled", [False, True])
def test_with_equal_weights_a_batch_of_one_valid_position_does_not_count(compiled: bool) -> None:
    torch._dynamo.reset()
    layer = layer_of(momentum=None)
    layer.reset_running_stats()
    run = torch.compile(layer, backend="eager") if compiled else layer
    batches = [sample((3, 4, 5), seed) for seed in range(3)]
    mask = torch.ones(3, 5, dtype=torch.bool)
    for x, valid in ((batches[0], 0), (batches[0], 1), (batches[1], 15), (batches[0], 1), (batches[2], 15)):
        run(x, mask.view(-1).cumsum(0).le(valid).view(3, 5))
    assert layer.num_batches_tracked == 2
    means, variances = zip(*((x.mean((0, 2)), x.var((0, 2), correction=1)) for x in batches[1:]), strict=True)
    torch.testing.assert_close(layer.running_mean, torch.stack(means).mean(0), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(layer.running_var, torch.stack(variances).mean(0), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("garbage", GARBAGE)
@pytest.mark.parametrize("mode", ["training", "evaluation"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16], ids=str)
def test_what_stands_in_the_padding_changes_nothing(garbage: float, mode: str, dtype: torch.dtype) -> None:
    clean, mask = sequences()
    clean = clean.to(dtype)
    layer = layer_of().to(torch.float32 if dtype == torch.float16 else dtype).train(mode == "training")
    found = []
    for padding in (0.0, garbage):
        own, padded = twin(layer), ~mask.unsqueeze(1).expand_as(clean)
        padding = min(padding, torch.finfo(dtype).max) if padding == 1e30 else padding
        x = clean.masked_fill(padded, padding).requires_grad_()
        y = own(x, mask)
        # What comes in at the padding does not matter, either.
        grad = y.detach().cos().masked_fill(padded, padding)
        first = torch.autograd.grad(y, [x, *own.parameters()], grad, retain_graph=True)
        again = torch.autograd.grad(y, [x, *own.parameters()], grad, create_graph=True)
        second = torch.autograd.grad(
            sum(tensor.float().cos().sum() for tensor in again), [x, *own.parameters()], allow_unused=True
        )
        for into_x in (first[0], again[0], second[0]):
            assert into_x is None or torch.equal(into_x[padded], torch.zeros_like(into_x[padded]))
        assert torch.equal(y[padded], torch.zeros_like(y[padded]))
        found.append([y, *first, *again, *second, *own.buffers(), spelled_out(own, x, mask)[: 2 * y.numel()]])
    for one, other in zip(*found, strict=True):
        assert one is None or torch.equal(one, other)


def test_padding_is_zero_even_beside_valid_nan() -> None:
    x, mask = sequences()
    x[0, :, 0] = float("nan")
    x.requires_grad_()
    y = layer_of()(x, mask)
    (into_x,) = torch.autograd.grad(y.sum(), x)
    padded = ~mask.unsqueeze(1).expand_as(x)
    assert (y[padded] == 0).all()
    assert (into_x[padded] == 0).all()
    assert y[~padded].isnan().all()


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Parts of a batch are as large as the threads together can hold."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("offset", [0.0, 1e4])
def test_a_batch_larger_than_the_cache_goes_through_in_parts_and_gives_the_same(
    layout: torch.memory_format, dtype: torch.dtype, offset: float
) -> None:
    # Three parts; the first has no valid position, the second few.
    x = (sample((41, 64, 20, 20), seed=2) + offset).to(dtype).contiguous(memory_format=layout).requires_grad_()
    mask = torch.rand((41, 20, 20), generator=torch.Generator().manual_seed(0)) < 0.6
    mask[:20] = False
    mask[20:38, 1:] = False
    layer = layer_of(64).to(torch.float32 if dtype == torch.bfloat16 else dtype)
    exact = twin(layer).double()
    expected = spelled_out(exact, x.double(), mask)
    y = layer(x, mask)
    assert y.dtype == dtype
    assert y.is_contiguous(memory_format=layout)
    grad = expected[: y.numel()].view_as(y).cos().to(dtype)
    actual = torch.autograd.grad(y, [x, *layer.parameters()], grad)
    assert actual[0].is_contiguous(memory_format=layout)
    digits = {torch.float64: 1e-10, torch.float32: 2e-6, torch.bfloat16: 2**-7}[dtype]
    start = 0
    for tensor in (y, *actual):
        theirs = expected[start : start + tensor.numel()].view(tensor.shape)
        start += tensor.numel()
        # The mean is known to half a digit of its own size.
        scale = theirs.abs().max().clamp_min(1.0) * (1.0 + offset if dtype == torch.float32 else 1.0)
        assert (tensor.double() - theirs).abs().max() <= digits * scale
    # Nor are the means of the parts known any better, of which the distances are part of the variance.
    digits = 2e-5 if offset and dtype == torch.float32 else digits
    for name, value in exact.named_buffers():
        torch.testing.assert_close(layer.get_buffer(name).to(value.dtype), value, rtol=digits, atol=1e-6)


@pytest.mark.parametrize("options", [{}, {"affine": False}], ids=str)
@pytest.mark.parametrize("shape", [(12, 4), (6, 4, 3), (5, 4, 3, 2), (4, 4, 2, 3, 2)], ids=str)
def test_the_fast_path_and_the_primitive_one_agree(shape: tuple[int, ...], options: dict[str, object]) -> None:
    layer, x = layer_of(**options), sample(shape).requires_grad_()
    other = twin(layer)
    mask = torch.rand((shape[0], *shape[2:]), generator=torch.Generator().manual_seed(3)) < 0.7
    y = layer(x, mask)
    actual = torch.cat([tensor.flatten() for tensor in (y, *gradients(y, x, layer))])
    torch.testing.assert_close(actual, spelled_out(other, x, mask), rtol=1e-11, atol=1e-11)
    for name, value in other.named_buffers():
        torch.testing.assert_close(layer.get_buffer(name), value, rtol=1e-12, atol=1e-12, msg=name)


@pytest.mark.parametrize("spell", [False, True], ids=["fast", "primitive"])
@pytest.mark.parametrize("momentum", [0.1, None])
def test_a_batch_of_padding_alone_is_not_counted(momentum: float | None, spell: bool) -> None:
    layer = layer_of(momentum=momentum)
    before, (x, mask) = twin(layer), sequences()
    x.requires_grad_()
    y = layer(x, torch.zeros_like(mask))
    if spell:
        y = spelled_out(layer, x, torch.zeros_like(mask))
        assert (y == 0).all()
    else:
        assert (y == 0).all()
        assert all((grad == 0).all() for grad in gradients(y, x, layer))
    empty = x.detach()[:0].requires_grad_()
    assert all((grad == 0).all() for grad in gradients(layer(empty, mask[:0]), empty, layer))
    for name, value in before.state_dict().items():
        assert torch.equal(layer.state_dict()[name], value), name
    # An average over all batches is one over those that had something in them.
    layer(x, mask)
    before(x, mask)
    for name, value in before.state_dict().items():
        assert torch.equal(layer.state_dict()[name], value), name


@pytest.mark.parametrize("spell", [False, True], ids=["fast", "primitive"])
def test_a_single_valid_position_moves_the_mean_and_not_the_variance(spell: bool) -> None:
    layer, (x, mask) = layer_of(momentum=0.25), sequences()
    before = twin(layer)
    alone = torch.zeros_like(mask)
    alone[2, 3] = True
    y = spelled_out(layer, x, alone)[: x.numel()].view_as(x) if spell else layer(x, alone)
    torch.testing.assert_close(y[2, :, 3], layer.bias.detach(), rtol=1e-12, atol=1e-12)
    moved = before.running_mean + 0.25 * (x[2, :, 3] - before.running_mean)
    torch.testing.assert_close(layer.running_mean, moved, rtol=1e-12, atol=1e-12)
    assert torch.equal(layer.running_var, before.running_var)
    assert layer.num_batches_tracked == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"mask": torch.ones(6, 9)}, "bool of shape"),
        ({"mask": torch.ones(6, 4, 9, dtype=torch.bool)}, "bool of shape"),
        ({"mask": torch.ones(1, 9, dtype=torch.bool)}, "bool of shape"),
        ({"lengths": torch.ones(6)}, "lengths are integers"),
        ({"lengths": torch.ones(5, dtype=torch.long)}, "lengths are integers"),
        ({"mask": [[True] * 9] * 6}, "mask must be a tensor, got list"),
        ({"lengths": LENGTHS.tolist()}, "lengths must be a tensor, got list"),
        ({"lengths": LENGTHS, "mask": torch.ones(6, 9, dtype=torch.bool)}, "one of them"),
    ],
)
@pytest.mark.parametrize("mode", ["training", "evaluation"])
def test_a_mask_that_does_not_fit_is_refused(arguments: dict[str, Tensor], message: str, mode: str) -> None:
    layer, (x, _) = layer_of().train(mode == "training"), sequences()
    with pytest.raises(ValueError, match=message):
        layer(x, **arguments)
    assert layer.num_batches_tracked == 0


def test_lengths_of_images_and_one_value_are_refused() -> None:
    with pytest.raises(ValueError, match="lengths are integers"):
        layer_of()(torch.zeros(6, 4, 3, 3).double(), lengths=LENGTHS)
    with pytest.raises(ValueError, match="Expected more than 1 value per channel"):
        layer_of()(torch.zeros(1, 4).double(), torch.ones(1, dtype=torch.bool))


@pytest.mark.parametrize("rows", [False, True], ids=["planes", "rows"])
def test_the_third_derivative_is_right_though_that_of_the_kernel_is_not(rows: bool) -> None:
    layer, (x, mask) = layer_of(), sequences()
    x = (x.movedim(1, 2).contiguous().movedim(2, 1) if rows else x).requires_grad_()
    weights = sample(x.shape, seed=5)

    def third(run: Callable[[Tensor], Tensor]) -> Tensor:
        loss = (run(x).sin() * weights).sum()
        for _ in range(3):
            (grad,) = torch.autograd.grad(loss, x, create_graph=True)
            loss = (grad * weights).sum()
        return grad

    def packed(x: Tensor) -> Tensor:
        valid = x.movedim(1, -1)[mask]
        standard = (valid - valid.mean(0)) / (valid.var(0, correction=0) + layer.eps).sqrt()
        return torch.zeros(6, 9, 4).double().index_put((mask,), affine(layer, standard)).movedim(-1, 1)

    torch.testing.assert_close(third(lambda x: layer(x, mask)), third(packed), rtol=1e-9, atol=1e-9)


@jit_is_deprecated
def test_compiled_as_one_graph_with_lengths_it_gives_the_eager_numbers() -> None:
    torch._dynamo.reset()
    eager = layer_of(momentum=None).float()
    other = twin(eager)
    compiled = torch.compile(other, backend="aot_eager_decomp_partition", fullgraph=True)
    for seed in range(3):
        x, lengths = sequences(seed)[0].float().requires_grad_(), LENGTHS.roll(seed)
        y = x.detach().clone().requires_grad_()
        first, second = eager(x, lengths=lengths), compiled(y, lengths=lengths)
        torch.testing.assert_close(second, first, rtol=1e-5, atol=1e-5)
        for mine, theirs in zip(gradients(second, y, other), gradients(first, x, eager), strict=True):
            torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5)
    for name, value in eager.state_dict().items():
        torch.testing.assert_close(other.state_dict()[name], value, rtol=1e-5, atol=1e-6, msg=name)


def test_exported_for_evaluation_it_takes_a_mask() -> None:
    layer, (x, mask) = layer_of().eval(), sequences()
    program = torch.export.export(layer, (x, mask)).module()
    for other in (mask, mask.roll(1, 0)):
        torch.testing.assert_close(program(x, other), layer(x, other), rtol=1e-12, atol=1e-12)


@jit_is_deprecated
def test_members_of_an_ensemble_have_their_own_masks() -> None:
    members = [layer_of() for _ in range(2)]
    parameters, buffers = torch.func.stack_module_state(members)
    x, mask = sequences()
    batches, masks = torch.stack((x, 2 * x)), torch.stack((mask, ~mask))

    def run(parameters: dict[str, Tensor], buffers: dict[str, Tensor], x: Tensor, mask: Tensor) -> Tensor:
        return torch.func.functional_call(members[0], {**parameters, **buffers}, (x, mask))

    y = torch.func.vmap(run)(parameters, buffers, batches, masks)
    for index, member in enumerate(members):
        torch.testing.assert_close(y[index], member(batches[index], masks[index]), rtol=1e-11, atol=1e-11)
        for name, buffer in member.named_buffers():
            torch.testing.assert_close(buffers[name][index], buffer, rtol=1e-11, atol=1e-12, msg=name)


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=15, deadline=None, derandomize=True)
def test_permuting_samples_and_mask_permutes_the_outputs(seed: int) -> None:
    layer, (x, mask) = layer_of(), sequences()
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))
    torch.testing.assert_close(twin(layer)(x[order], mask[order]), layer(x, mask)[order], rtol=1e-10, atol=1e-10)


def test_without_statistics_evaluation_measures_the_valid_positions() -> None:
    layer, (x, mask) = layer_of(), sequences()
    layer.running_mean = layer.running_var = layer.num_batches_tracked = None
    rows = x.movedim(1, -1)[mask]
    standard = (rows - rows.mean(0)) / (rows.var(0, correction=0) + layer.eps).sqrt()
    for mode in (True, False):
        y = layer.train(mode)(x, mask)
        torch.testing.assert_close(y.movedim(1, -1)[mask], affine(layer, standard), rtol=1e-10, atol=1e-10)
