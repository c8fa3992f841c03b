"""Ghost batch norm: the groups, whatever the remainder and the layout, and its reduction to batch norm."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bncore.norm.ghost_batch_norm import GhostBatchNorm

LAYOUTS = {
    "vectors": lambda x: x[..., 0, 0],
    "rows": lambda x: x[..., 0],
    "rows, channels last": lambda x: x[..., 0].transpose(1, 2).contiguous().transpose(1, 2),
    "images": lambda x: x,
    "images, channels last": lambda x: x.to(memory_format=torch.channels_last),
    "images, no layout": lambda x: x.transpose(0, 3).contiguous().transpose(0, 3),
    "volumes, channels last": lambda x: x.unsqueeze(-1).to(memory_format=torch.channels_last_3d),
}
WAYS = [(36, 64, 28, 28), (40, 24, 7, 7), (15, 24, 3, 3)]
"""In channels_last: the sums by a kernel, all by passes, and groups that are few and small by a kernel each."""
FEW_AND_MANY = [(8, 4), (7, 4), (18, 2), (19, 2)]
"""Examples and the size of a group: few small groups are normalized by a kernel each, many by passes."""
FORMATS = [torch.contiguous_format, torch.channels_last]
layouts = pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)


def batch(count: int, seed: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, 5, 3, 2, generator=generator, dtype=torch.float64) * 2 + 1


def plain(like: nn.Module, x: Tensor) -> nn.Module:
    """torch's layer for this rank, with the state of ours."""
    kind = {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d, 5: nn.BatchNorm3d}[x.dim()]
    layer = kind(5, momentum=like.momentum).to(x.dtype)
    layer.load_state_dict(copy.deepcopy(like.state_dict()), strict=True)
    return layer


@pytest.mark.parametrize("size", [9, 10, 1000])
@pytest.mark.parametrize("momentum", [0.1, None])
@layouts
def test_with_one_group_fifty_steps_are_those_of_torch_bit_for_bit(layout, size: int, momentum: float | None) -> None:
    ghost = GhostBatchNorm(5, virtual_batch_size=size, momentum=momentum)
    theirs = plain(ghost, layout(batch(9).float()))
    for step in range(50):
        first, second = (layout(batch(9, step).float()).requires_grad_() for _ in range(2))
        y, expected = ghost(first), theirs(second)
        y.sin().sum().backward()
        expected.sin().sum().backward()
        assert torch.equal(y, expected)
        assert torch.equal(first.grad, second.grad)
    for name, value in theirs.state_dict().items():
        # torch averages all batches with a weight in double precision, read back from the device.
        exact = 0.0 if momentum else 1e-6
        torch.testing.assert_close(ghost.state_dict()[name], value, rtol=exact, atol=exact, msg=name)
    for mine, other in zip(ghost.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(mine.grad, other.grad)


@pytest.mark.parametrize(
    ("examples", "size", "groups"),
    [(12, 4, 3), (12, 5, 3), (13, 4, 4), (11, 4, 3), (7, 2, 3), (9, 2, 4), (3, 2, 1), (14, 5, 3), (8, 7, 2)],
)
@layouts
def test_each_group_is_normalized_as_torch_does_by_itself(layout, examples: int, size: int, groups: int) -> None:
    x = layout(batch(examples)).requires_grad_()
    if x.dim() > 2:
        groups = -(-examples // size)
    ghost = GhostBatchNorm(5, size, momentum=0.3).double()
    nn.init.normal_(ghost.weight, generator=torch.Generator().manual_seed(1))
    each = [plain(ghost, x) for _ in range(groups)]
    y = ghost(x)
    y.sin().sum().backward()
    counts = set()
    weight = torch.zeros(5).double()
    parts = (one.detach().tensor_split(groups) for one in (x, y, x.grad))
    for layer, of_x, of_y, of_gradient in zip(each, *parts, strict=True):
        own = of_x.clone().requires_grad_()
        expected = layer(own)
        expected.sin().sum().backward()
        torch.testing.assert_close(of_y, expected.detach(), rtol=1e-11, atol=1e-11)
        torch.testing.assert_close(of_gradient, own.grad, rtol=1e-10, atol=1e-10)
        counts.add(len(own))
        weight += layer.weight.grad
    assert max(counts) <= max(size, 3)
    assert max(counts) - min(counts) <= 1
    torch.testing.assert_close(ghost.weight.grad, weight)
    for name in ("running_mean", "running_var"):
        mean = torch.stack([getattr(layer, name) for layer in each]).mean(0)
        torch.testing.assert_close(getattr(ghost, name), mean, rtol=1e-12, atol=1e-12)
    assert ghost.num_batches_tracked == 1


@pytest.mark.parametrize("memory_format", FORMATS, ids=["contiguous", "channels last"])
@pytest.mark.parametrize(
    ("shape", "size"),
    [((26, 8, 24, 24), 9), ((11, 4, 120, 120), 4), ((9, 64, 28, 28), 4), ((6, 64, 56, 56), 2), ((45, 512, 7, 7), 3)],
    ids=["a remainder", "few channels", "no remainder", "more than the cache holds", "many groups"],
)
def test_each_group_of_a_large_batch_is_normalized_as_torch_does(
    shape: tuple[int, ...], size: int, memory_format: torch.memory_format
) -> None:
    x = (torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64) + 3).requires_grad_()
    ghost, own = GhostBatchNorm(shape[1], size).double(), x.detach().to(memory_format=memory_format, copy=True)
    y = ghost(own.requires_grad_())
    y.backward(x.detach().sin())
    theirs, averages = nn.BatchNorm2d(shape[1], momentum=1.0).double(), []
    for part, normalized in zip(
        x.tensor_split(-(-shape[0] // size)), y.tensor_split(-(-shape[0] // size)), strict=True
    ):
        expected = theirs(part)
        expected.backward(part.detach().sin())
        torch.testing.assert_close(normalized, expected, rtol=1e-9, atol=1e-9)
        averages.append(torch.stack((theirs.running_mean, theirs.running_var)))
    torch.testing.assert_close(own.grad, x.grad, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(ghost.weight.grad, theirs.weight.grad, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(ghost.bias.grad, theirs.bias.grad, rtol=1e-9, atol=1e-9)
    mean, var = torch.stack(averages).mean(0)
    torch.testing.assert_close(ghost.running_mean, 0.1 * mean, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(ghost.running_var, 0.9 + 0.1 * var, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("memory_format", FORMATS, ids=["contiguous", "channels last"])
@pytest.mark.parametrize(("examples", "channels"), [(9, 64), (10, 64), (36, 5), (8, 5)])
@pytest.mark.parametrize("affine", [True, False])
def test_in_half_precision_it_is_torchs_layer_over_micro_batches(
    examples: int, channels: int, affine: bool, memory_format: torch.memory_format
) -> None:
    x = torch.randn(examples, channels, 28, 28).bfloat16().to(memory_format=memory_format)
    ghost, theirs = GhostBatchNorm(channels, 4, affine=affine), nn.BatchNorm2d(channels, affine=affine)
    own, other = (x.clone(memory_format=torch.preserve_format).requires_grad_() for _ in range(2))
    y, expected = ghost(own), torch.cat([theirs(part) for part in other.tensor_split(-(-examples // 4))])
    for result in (y, expected):
        result.backward(x)
    assert torch.equal(y, expected)
    assert torch.equal(own.grad, other.grad)
    if affine:
        torch.testing.assert_close(ghost.weight.grad, theirs.weight.grad)
        torch.testing.assert_close(ghost.bias.grad, theirs.bias.grad)


@pytest.mark.parametrize("shape", WAYS, ids=["sums by a kernel", "by passes", "a kernel each"])
@pytest.mark.parametrize("mean", [0.0, 7.0, 1e3])
def test_in_channels_last_single_precision_loses_no_more_than_in_a_contiguous_batch(
    shape: tuple[int, ...], mean: float
) -> None:
    # Of the same numbers in double precision; a mean that far off costs a float32 about so many of its digits.
    x = (torch.randn(shape, generator=torch.Generator().manual_seed(1)) + mean).to(memory_format=torch.channels_last)
    slope = x.sin()
    results = []
    for dtype in (torch.float32, torch.float64):
        ghost, own = GhostBatchNorm(shape[1], 4).to(dtype), x.detach().to(dtype).requires_grad_()
        y = ghost(own)
        y.backward(slope.to(dtype))
        results.append([one.double() for one in (y, own.grad, ghost.weight.grad, ghost.running_var)])
    error = 1e-5 + 1e-6 * mean
    for mine, exact in zip(*results, strict=True):
        torch.testing.assert_close(mine, exact, rtol=error, atol=error * max(1.0, exact.abs().max().item()))


@pytest.mark.parametrize("shape", WAYS, ids=["sums by a kernel", "by passes", "a kernel each"])
@pytest.mark.parametrize("spoilt", [torch.nan, torch.inf])
def test_in_channels_last_a_value_that_is_not_finite_spoils_its_group_and_channel_alone(
    shape: tuple[int, ...], spoilt: float
) -> None:
    ghost, x = GhostBatchNorm(shape[1], 4), torch.randn(shape).to(memory_format=torch.channels_last)
    x[1, 2, 0, 0] = spoilt
    x.requires_grad_()
    y = ghost(x)
    y.backward(torch.ones_like(y))
    own = torch.zeros(shape, dtype=torch.bool)
    # The first group.
    own[: -(-shape[0] // -(-shape[0] // 4)), 2] = True
    assert y[~own].isfinite().all()
    assert x.grad[~own].isfinite().all()
    assert not y[own].isfinite().all()


@pytest.mark.parametrize("shape", WAYS, ids=["sums by a kernel", "by passes", "a kernel each"])
def test_in_channels_last_autocast_does_not_round_the_sums(shape: tuple[int, ...]) -> None:
    x, results = torch.randn(shape).to(memory_format=torch.channels_last), []
    for enabled in (False, True):
        ghost, own = GhostBatchNorm(shape[1], 4), x.clone(memory_format=torch.preserve_format).requires_grad_()
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            y = ghost(own)
            y.backward(x)
        results.append((y, own.grad, ghost.running_mean))
    for mine, other in zip(*results, strict=True):
        assert torch.equal(mine, other)


@layouts
def test_the_running_statistics_of_many_steps_are_the_average_over_groups(layout) -> None:
    ghost = GhostBatchNorm(5, 3).double()
    each = [plain(ghost, layout(batch(9))) for _ in range(3)]
    for step in range(50):
        x = layout(batch(9, step))
        ghost(x)
        for layer, part in zip(each, x.tensor_split(3), strict=True):
            layer(part)
    for name in ("running_mean", "running_var"):
        mean = torch.stack([getattr(layer, name) for layer in each]).mean(0)
        torch.testing.assert_close(getattr(ghost, name), mean, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("momentum", [0.0, 0.1, 0.5, 1.0, 2.0, -0.5, None])
@pytest.mark.parametrize(("examples", "size"), [(8, 4), (11, 3), (32, 4), (18, 2), (31, 3)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_running_statistics_move_to_the_average_over_groups_by_any_momentum(
    examples: int, size: int, momentum: float | None, dtype: torch.dtype
) -> None:
    # In single precision, the kernel moves them once for each group, which costs what a sum of as many numbers does.
    ghost, groups = GhostBatchNorm(5, size, momentum=momentum).to(dtype), -(-examples // size)
    mean, var = torch.zeros(5).double(), torch.ones(5).double()
    for step in range(20):
        x = batch(examples, step).to(dtype) + 3.0
        ghost(x)
        parts = x.double().tensor_split(groups)
        newest = torch.stack([torch.stack((part.mean((0, 2, 3)), part.var((0, 2, 3)))) for part in parts]).mean(0)
        share = 1.0 / (step + 1) if momentum is None else momentum
        mean, var = (1.0 - share) * mean + share * newest[0], (1.0 - share) * var + share * newest[1]
    error = 1e-11 if dtype == torch.float64 else 1e-5
    torch.testing.assert_close(ghost.running_mean.double(), mean, rtol=error, atol=error)
    torch.testing.assert_close(ghost.running_var.double(), var, rtol=error, atol=error)
    assert ghost.num_batches_tracked == 20


@pytest.mark.parametrize("kept", [torch.bfloat16, torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("given", [torch.bfloat16, torch.float32], ids=str)
@pytest.mark.parametrize(("examples", "size"), [(16, 2), (36, 2)], ids=["few", "many"])
def test_running_statistics_are_rounded_once_a_batch(
    examples: int, size: int, given: torch.dtype, kept: torch.dtype
) -> None:
    ghost, x = GhostBatchNorm(5, size, momentum=0.3).to(kept), batch(examples).to(given)
    before = [one.double().clone() for one in (ghost.running_mean.fill_(1.7), ghost.running_var.fill_(0.3))]
    ghost(x)
    parts = torch.stack(x.double().tensor_split(-(-examples // size)))
    of_groups = parts.mean((1, 3, 4)), parts.transpose(1, 2).flatten(2).var(2)
    for running, start, newest in zip((ghost.running_mean, ghost.running_var), before, of_groups, strict=True):
        # Half a unit in the last place for the newest that is rounded, and for the sum.
        error = 2.0**-8 if kept == torch.bfloat16 else 1e-6
        torch.testing.assert_close(running.double(), start.lerp(newest.mean(0), 0.3), rtol=error, atol=0)


def test_groups_of_one_image_are_instance_norm_and_of_one_vector_are_refused() -> None:
    ghost, x = GhostBatchNorm(5, virtual_batch_size=1).double(), batch(4)
    torch.testing.assert_close(ghost(x), F.instance_norm(x), rtol=1e-11, atol=1e-11)
    with pytest.raises(ValueError, match=r"Expected more than 1 value per channel.*virtual_batch_size"):
        ghost(x[..., 0, 0])
    assert ghost.num_batches_tracked == 1


@pytest.mark.parametrize("size", [0, 2.5, None])
def test_a_size_that_is_none_is_refused(size: object) -> None:
    with pytest.raises(ValueError, match=r"virtual_batch_size .*at least 1 example"):
        GhostBatchNorm(5, virtual_batch_size=size)


@pytest.mark.parametrize("memory_format", FORMATS, ids=["contiguous", "channels last"])
@pytest.mark.parametrize("shape", WAYS, ids=["sums by a kernel", "by passes", "a kernel each"])
def test_a_batch_is_neither_copied_nor_kept_a_second_time(
    shape: tuple[int, ...], memory_format: torch.memory_format
) -> None:
    ghost, x = GhostBatchNorm(shape[1], 3), torch.randn(shape).to(memory_format=memory_format).requires_grad_()
    kept: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor) or tensor, lambda tensor: tensor):
        ghost(x)
    assert {one.untyped_storage().data_ptr() for one in kept if one.numel() > x.numel() // 6} == {x.data_ptr()}


@pytest.mark.parametrize(("examples", "size"), FEW_AND_MANY)
def test_channels_last_gradients_arrive_in_that_layout_and_have_derivatives(examples: int, size: int) -> None:
    ghost = GhostBatchNorm(5, size).double().requires_grad_(False)
    x = batch(examples).to(memory_format=torch.channels_last).requires_grad_()
    strides: list[bool] = []
    watched = x.clone()
    watched.register_hook(lambda grad: strides.append(grad.is_contiguous(memory_format=torch.channels_last)))
    ghost(watched).sin().sum().backward()
    assert strides == [True]
    small = x.detach()[:, :2, :2].contiguous(memory_format=torch.channels_last).requires_grad_()
    narrow = GhostBatchNorm(2, size).double().requires_grad_(False)
    assert torch.autograd.gradcheck(lambda x: copy.deepcopy(narrow)(x), small)
    assert torch.autograd.gradgradcheck(lambda x: copy.deepcopy(narrow)(x), small)


@pytest.mark.parametrize(("examples", "size"), FEW_AND_MANY)
def test_channels_last_gradients_of_a_stack_are_those_of_each_and_have_no_graph(examples: int, size: int) -> None:
    ghost, x = GhostBatchNorm(5, size).double(), batch(examples).to(memory_format=torch.channels_last).requires_grad_()
    inputs, stack = (x, ghost.weight, ghost.bias), torch.stack([batch(examples, seed) for seed in range(3)])
    y = ghost(x)
    together = torch.autograd.grad(y, inputs, stack, is_grads_batched=True, retain_graph=True)
    each = zip(*(torch.autograd.grad(y, inputs, one, retain_graph=True) for one in stack), strict=True)
    for mine, others in zip(together, each, strict=True):
        assert not mine.requires_grad
        torch.testing.assert_close(mine, torch.stack(others), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(("examples", "size"), FEW_AND_MANY)
def test_channels_last_gradients_are_right_where_hooks_bring_the_input_back_in_another_layout(
    examples: int, size: int
) -> None:
    ghost, x = GhostBatchNorm(5, size).double(), batch(examples).to(memory_format=torch.channels_last).requires_grad_()
    (expected,) = torch.autograd.grad(ghost(x).sin().sum(), x)
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: tensor.contiguous(), lambda tensor: tensor):
        y = ghost(x)
    torch.testing.assert_close(torch.autograd.grad(y.sin().sum(), x)[0], expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("training", [True, False])
def test_without_running_statistics_groups_are_normalized_all_the_same(training: bool) -> None:
    ghost, x = GhostBatchNorm(5, 2).double(), batch(8)
    expected = copy.deepcopy(ghost)(x)
    ghost.running_mean = ghost.running_var = ghost.num_batches_tracked = None
    torch.testing.assert_close(ghost.train(training)(x), expected, rtol=0, atol=0)


def test_with_the_guard_on_one_spoilt_group_leaves_the_channel_as_it_was() -> None:
    ghost, x = GhostBatchNorm(5, 2, nan_guard=True).double(), batch(8)
    x[5, 2] = float("nan")
    y = ghost(x)
    assert y[[0, 1, 2, 3, 6, 7]].isfinite().all()
    assert ghost.running_mean[2] == 0
    assert ghost.running_var[2] == 1
    assert (ghost.running_mean[[0, 1, 3, 4]] != 0).all()


@pytest.mark.parametrize("layout", [LAYOUTS["vectors"], LAYOUTS["images"]], ids=["vectors", "images"])
def test_exported_for_training_it_forms_the_groups_of_any_number_of_examples(layout) -> None:
    layer, x = GhostBatchNorm(5, 3).double(), layout(batch(8))
    program = torch.export.export(copy.deepcopy(layer), (x,), dynamic_shapes=({0: torch.export.Dim.DYNAMIC},)).module()
    for count in range(2, 12):
        given = layout(batch(count, seed=count))
        torch.testing.assert_close(program(given), layer(given), rtol=1e-12, atol=1e-12)
    for name, value in layer.named_buffers():
        torch.testing.assert_close(program.get_buffer(name), value, rtol=1e-12, atol=1e-12)


def test_compiled_it_is_one_graph_for_batches_of_every_size() -> None:
    torch._dynamo.reset()
    layer = GhostBatchNorm(5, 3).double()
    compiled = torch.compile(copy.deepcopy(layer), backend="eager", fullgraph=True)
    # From the second size on, the number of examples is left open.
    for count in (9, 7):
        torch.testing.assert_close(compiled(batch(count)), layer(batch(count)), rtol=1e-12, atol=1e-12)
