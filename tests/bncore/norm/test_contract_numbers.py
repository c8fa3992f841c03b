"""Every layer against the equations of its paper, written out in primitive operations in double precision."""

import inspect

import pytest
import torch
from torch import Tensor, nn

import bncore.norm
from bncore.norm import build_norm
from bncore.spec import NormSpec, members
from tests.bncore.norm.case import Case, cases, sample, twin

MODES = ["training", "evaluation"]


def derivatives(y: Tensor, x: Tensor, layer: nn.Module, orders: int) -> list[Tensor]:
    """y, all first derivatives of a weighted sum of its sines, and all derivatives of those once more."""
    inputs = [x, *(parameter for parameter in layer.parameters() if parameter.requires_grad)]
    weights = torch.linspace(-1.0, 1.0, y.numel(), dtype=y.dtype).view(y.shape)
    loss = (y.sin() * weights).sum()
    unused = {"allow_unused": True, "materialize_grads": True}
    first = torch.autograd.grad(loss, inputs, create_graph=orders > 1, **unused)
    values = [y.detach(), *(grad.detach() for grad in first)]
    if orders > 1:
        values += torch.autograd.grad(sum(grad.cos().sum() for grad in first), inputs, **unused)
    return values


def in_mode(layer: nn.Module, mode: str) -> nn.Module:
    return layer.train(mode == "training")


def test_every_layer_has_a_case_and_is_exported() -> None:
    """The union says which there are: what is exported might lack the new one, and then nothing would be missed."""
    of_specs = {type(build_norm(member(), 32)) for member in members(NormSpec)} - {type(None)}
    modules = [getattr(bncore.norm, name) for name in bncore.norm.__all__]
    exported = {one for one in modules if inspect.isclass(one) and issubclass(one, nn.Module)}
    assert of_specs - exported == set()
    layers = of_specs | {one for one in exported if "num_features" in inspect.signature(one).parameters}
    assert layers - {type(case.make()) for case in cases()} == set()


@pytest.mark.parametrize("mode", MODES)
def test_output_and_derivatives_follow_the_paper(case: Case, shape: tuple[int, ...], mode: str) -> None:
    layer = in_mode(case.prepared(), mode)
    x = sample(shape).requires_grad_()
    expected = derivatives(case.expected(layer, x), x, layer, case.orders)
    actual = derivatives(layer(x), x, layer, case.orders)
    for mine, theirs in zip(actual, expected, strict=True):
        assert (mine - theirs).abs().max() <= 1e-10 * theirs.abs().max().clamp_min(1.0)


@pytest.mark.parametrize("mode", MODES)
def test_single_precision_is_right_to_five_digits(case: Case, shape: tuple[int, ...], mode: str) -> None:
    layer = in_mode(case.prepared(), mode)
    x = sample(shape).float()
    expected = case.expected(layer, x.double())
    y = layer.float()(x)
    assert y.dtype == torch.float32
    assert (y.double() - expected).abs().max() <= 1e-5 * expected.abs().max().clamp_min(1.0)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.bfloat16, 2**-7), (torch.float16, 2**-9)], ids=str)
@pytest.mark.parametrize("mode", MODES)
def test_half_precision_input_keeps_its_type_and_is_measured_in_single(
    case: Case, shape_of: tuple[int, ...], mode: str, dtype: torch.dtype, tolerance: float
) -> None:
    layer = in_mode(case.prepared(torch.float32), mode)
    x = sample(shape_of).to(dtype).requires_grad_()
    wide = twin(layer)(x.detach().float())
    y = layer(x)
    assert y.dtype == dtype
    torch.testing.assert_close(y.float(), wide, rtol=tolerance, atol=tolerance)
    y.float().sum().backward()
    assert x.grad is not None
    assert x.grad.dtype == dtype
    assert all(one.grad is None or one.grad.dtype == torch.float32 for one in layer.parameters())


@pytest.mark.parametrize(
    ("of_layer", "of_input"),
    [(torch.bfloat16, torch.float32), (torch.float16, torch.bfloat16), (torch.float32, torch.float64)],
    ids=["narrow layer", "two halves", "wide input"],
)
@pytest.mark.parametrize("mode", MODES)
def test_layer_and_input_may_be_of_different_types(
    case: Case, shape_of: tuple[int, ...], mode: str, of_layer: torch.dtype, of_input: torch.dtype
) -> None:
    layer = in_mode(case.prepared(of_layer), mode)
    before = {name: tensor.dtype for name, tensor in layer.state_dict().items()}
    x = sample(shape_of).to(of_input).requires_grad_()
    expected = case.expected(twin(layer).double(), x.detach().double())
    y = layer(x)
    assert y.dtype == of_input
    y.double().sum().backward()
    assert x.grad is not None
    assert x.grad.dtype == of_input
    assert all(one.grad is None or one.grad.dtype == one.dtype for one in layer.parameters())
    assert {name: tensor.dtype for name, tensor in layer.state_dict().items()} == before
    # A window of batches is kept in the type of the layer, and rounds what training uses of it.
    rounded = torch.finfo(of_layer).eps / 2 if hasattr(layer, "window_square") else 0.0
    tolerance = max(2.0 * torch.finfo(of_input).eps, 1e-7, rounded)
    assert (y.double() - expected).abs().max() <= 10 * tolerance * expected.abs().max().clamp_min(1.0)


def test_the_statistics_after_a_step_follow_the_paper(case: Case, shape: tuple[int, ...]) -> None:
    layer = case.prepared()
    x = sample(shape)
    expected = case.statistics(layer, x) if case.statistics is not None else {}
    before = {name: buffer.clone() for name, buffer in layer.named_buffers()}
    layer(x)
    after = dict(layer.named_buffers())
    assert set(expected) == set(after)
    for name, value in expected.items():
        torch.testing.assert_close(
            after[name], value.to(after[name].dtype).view_as(after[name]), rtol=1e-10, atol=1e-12
        )
    layer.load_state_dict(layer.state_dict() | before)
    layer.eval()(x)
    for name, value in before.items():
        assert torch.equal(dict(layer.named_buffers())[name], value), f"evaluation changed {name}"


@pytest.mark.where(lambda case: case.large_mean)
@pytest.mark.parametrize("ratio", [1e4, 1e6])
def test_a_large_mean_costs_no_more_digits_than_in_torch(case: Case, shape_of: tuple[int, ...], ratio: float) -> None:
    shape = (32, *shape_of[1:])
    x = (sample(shape) + ratio * 1.7).float()
    layer, theirs = case.prepared(), case.rival() if case.rival is not None else nn.BatchNorm1d(4)
    if hasattr(layer, "running_mean"):
        layer.running_mean.fill_(ratio * 1.7)
    expected, reference = case.training(layer, x.double()), theirs.double()(x.double().flatten(2))
    error = (layer.float()(x).double() - expected).abs().max()
    unavoidable = (theirs.float()(x.flatten(2)).double() - reference).abs().max()
    # Twice: torch's own kernels differ by that with the layout. Scale and shift go up to 2.
    assert error <= 4 * unavoidable.clamp_min(1e-6)


@pytest.mark.parametrize("mode", MODES)
def test_input_that_is_not_contiguous_gives_the_same(case: Case, shape_of: tuple[int, ...], mode: str) -> None:
    layer = in_mode(case.prepared(), mode)
    x = sample(shape_of)
    wide = torch.stack((x, -x), dim=-1)[..., 0]
    backwards = x.transpose(0, -1).contiguous().transpose(0, -1)
    expected = twin(layer)(x)
    for one in (wide, backwards):
        assert not one.is_contiguous()
        torch.testing.assert_close(twin(layer)(one), expected, rtol=1e-11, atol=1e-11)
