"""Every layer as a module: its state, its copies, its layouts, and input that cannot be normalized."""

import copy
import pickle
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from bncore.norm import BatchNorm, DynamicTanh, LayerNorm
from tests.bncore.norm.case import Case, sample, twin

TORCH = {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d, 5: nn.BatchNorm3d}


def equal_state(first: nn.Module, second: nn.Module) -> None:
    assert first.state_dict().keys() == second.state_dict().keys()
    for name, value in first.state_dict().items():
        torch.testing.assert_close(second.state_dict()[name], value, rtol=0, atol=0, equal_nan=True, msg=name)


@pytest.mark.where(lambda case: case.loads_into_torch)
def test_its_state_loads_into_torch_and_back(case: Case, shape_of: tuple[int, ...]) -> None:
    layer, x = case.prepared(), sample(shape_of)
    options = {"affine": layer.weight is not None, "track_running_stats": layer.running_mean is not None}
    plain = TORCH[len(shape_of)](4, eps=layer.eps, **options).double()
    plain.load_state_dict(layer.state_dict(), strict=True)
    torch.testing.assert_close(plain.eval()(x), layer.eval()(x), rtol=1e-12, atol=1e-12)
    fresh = case.make().double()
    fresh.load_state_dict(plain.state_dict(), strict=True)
    torch.testing.assert_close(fresh.eval()(x), plain(x), rtol=1e-12, atol=1e-12)
    old = {name: value for name, value in plain.state_dict().items() if name != "num_batches_tracked"}
    case.make().load_state_dict(old, strict=True)


def test_copies_and_pickles_compute_the_same(case: Case, shape_of: tuple[int, ...]) -> None:
    layer, x = case.prepared(), sample(shape_of)
    layer(x)
    others = [copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))]
    expected = layer(x)
    for other in others:
        torch.testing.assert_close(other(x), expected, rtol=0, atol=0)
        equal_state(layer, other)


def test_made_on_meta_it_takes_its_state_by_assignment(case: Case, shape_of: tuple[int, ...]) -> None:
    layer, x = case.prepared(), sample(shape_of)
    with torch.device("meta"):
        other = case.make()
    state = {name: value.clone() for name, value in layer.state_dict().items()}
    other.load_state_dict(state, strict=True, assign=True)
    torch.testing.assert_close(other(x), layer(x), rtol=0, atol=0)


def test_reset_gives_memory_without_content_the_state_of_a_new_layer(case: Case) -> None:
    new = case.make()
    with torch.device("meta"):
        other = case.make()
    other.to_empty(device="cpu")
    for tensor in other.state_dict().values():
        tensor.fill_(7)
    other.reset_parameters()
    equal_state(new, other)


@pytest.mark.parametrize("mode", ["training", "evaluation"])
def test_wholly_in_half_precision_it_computes(case: Case, shape_of: tuple[int, ...], mode: str) -> None:
    layer = case.prepared(torch.float16).train(mode == "training")
    y = layer(sample(shape_of).half())
    assert y.dtype == torch.float16
    assert y.isfinite().all()
    assert all(value.dtype in (torch.float16, torch.int64) for value in layer.state_dict().values())


@pytest.mark.parametrize("mode", ["training", "evaluation"])
def test_the_memory_format_is_kept_and_meta_stays_meta(case: Case, shape: tuple[int, ...], mode: str) -> None:
    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    layer, x = case.prepared(torch.float32).train(mode == "training"), sample(shape).float()
    expected = twin(layer)(x)
    assert expected.is_contiguous()
    if len(shape) in formats:
        last = x.to(memory_format=formats[len(shape)]).requires_grad_()
        y = twin(layer)(last)
        assert y.is_contiguous(memory_format=formats[len(shape)])
        torch.testing.assert_close(y, expected, rtol=1e-4, atol=1e-5)
        y.sum().backward()
        assert last.grad is not None
        assert last.grad.is_contiguous(memory_format=formats[len(shape)])
    on_meta = layer.to("meta")(x.to("meta"))
    assert on_meta.is_meta
    assert on_meta.shape == x.shape


def test_a_vector_without_batch_axis_is_refused(case: Case) -> None:
    with pytest.raises(ValueError, match="batch axis"):
        case.prepared()(torch.zeros(4, dtype=torch.float64))


@pytest.mark.parametrize("mode", ["training", "evaluation"])
def test_other_numbers_of_channels_and_whole_numbers_are_refused_and_leave_no_trace(
    case: Case, shape: tuple[int, ...], mode: str
) -> None:
    layer = case.prepared().train(mode == "training")
    before = twin(layer)
    for channels in (1, 2, 5, 8):
        with pytest.raises(ValueError, match="channels along axis 1"):
            layer(sample((shape[0], channels, *shape[2:])))
    with pytest.raises(ValueError, match="floating-point type"):
        layer(torch.ones(shape, dtype=torch.long))
    equal_state(before, layer)


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
@pytest.mark.parametrize("make", [lambda: BatchNorm(4), lambda: LayerNorm(4), lambda: DynamicTanh(4)])
def test_what_asks_for_channels_can_be_traced_without_a_warning(make: Callable[[], nn.Module]) -> None:
    layer, x = make().eval(), sample((5, 4, 3)).float()
    torch.testing.assert_close(torch.jit.trace(layer, (x,))(x), layer(x), rtol=0, atol=0)


@pytest.mark.parametrize("mode", ["training", "evaluation"])
@pytest.mark.parametrize("without", ["examples", "positions"])
def test_an_empty_batch_gives_an_empty_batch_and_moves_no_average_and_no_parameter(
    case: Case, shape_of: tuple[int, ...], without: str, mode: str
) -> None:
    layer = case.prepared().train(mode == "training")
    before = twin(layer)
    shape = (0, *shape_of[1:]) if without == "examples" else (*shape_of[:2], 0, *shape_of[3:])
    x = torch.zeros(shape, dtype=torch.float64, requires_grad=True)
    y = layer(x)
    assert y.shape == x.shape
    y.sum().backward()
    for name, parameter in layer.named_parameters():
        assert parameter.grad is None or not parameter.grad.any(), name
    for name, value in before.state_dict().items():
        if not name.endswith("num_batches_tracked"):
            torch.testing.assert_close(layer.state_dict()[name], value, rtol=0, atol=0)


def test_one_value_per_channel(case: Case, shape: tuple[int, ...]) -> None:
    layer, x = case.prepared(), sample((1, 4, *(1,) * (len(shape) - 2)))
    if case.one_value == "allowed":
        assert layer(x).isfinite().all()
        return
    state = twin(layer)
    with pytest.raises(ValueError, match=r"Expected more than 1 (value per channel|spatial element)"):
        layer(x)
    equal_state(state, layer)
    if case.one_value == "always refused":
        with pytest.raises(ValueError, match="Expected more than 1 spatial element"):
            layer.eval()(x)
    elif isinstance(layer, nn.modules.batchnorm._BatchNorm):
        assert layer.eval()(x).isfinite().all()


def run_pair(layer: nn.Module, pair: list[Tensor], *, at_once: bool, reentrant: bool | None) -> list[Tensor]:
    """Gradients of two micro-batches and of all parameters."""
    inputs = [x.clone().requires_grad_() for x in pair]
    pending = []
    for x in inputs:
        y = layer(x) if reentrant is None else checkpoint(layer, x, use_reentrant=reentrant)
        loss = y.sin().sum()
        if at_once:
            loss.backward()
        pending.append(loss)
    if not at_once:
        sum(pending).backward()
    gradients = [x.grad for x in inputs] + [parameter.grad for parameter in layer.parameters()]
    return [gradient for gradient in gradients if gradient is not None]


@pytest.mark.parametrize("reentrant", [None, True, False], ids=["stored", "reentrant", "not reentrant"])
def test_two_forward_passes_before_a_backward_pass(
    case: Case, shape_of: tuple[int, ...], reentrant: bool | None
) -> None:
    layer = case.prepared()
    other = twin(layer)
    pair = [sample(shape_of, seed=1), sample(shape_of, seed=2) * 1.3]
    expected = run_pair(other, pair, at_once=True, reentrant=None)
    actual = run_pair(layer, pair, at_once=case.averages_gradients, reentrant=reentrant)
    for mine, theirs in zip(actual, expected, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-9, atol=1e-9)
    for name, value in other.state_dict().items():
        torch.testing.assert_close(layer.state_dict()[name], value, rtol=1e-12, atol=1e-12, msg=name)


@pytest.mark.parametrize("reentrant", [None, True, False], ids=["stored", "reentrant", "not reentrant"])
def test_a_new_forward_pass_in_a_hook_of_a_backward_pass_is_one_like_any(
    case: Case, shape_of: tuple[int, ...], reentrant: bool | None
) -> None:
    layer, x = case.prepared(), sample(shape_of)
    other, seen = twin(layer), []
    expected = run_pair(other, [x, 1.3 * x], at_once=True, reentrant=None)

    @torch.enable_grad()
    def look(_gradient: Tensor) -> None:
        seen.extend(run_pair(layer, [x, 1.3 * x], at_once=True, reentrant=reentrant))

    y = torch.ones(1, requires_grad=True).exp()
    y.register_hook(look)
    y.backward()
    for mine, theirs in zip(seen, expected, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-9, atol=1e-9)
    for name, value in other.state_dict().items():
        torch.testing.assert_close(layer.state_dict()[name], value, rtol=1e-12, atol=1e-12, msg=name)


@pytest.mark.where(lambda case: case.statistics is not None)
def test_with_the_guard_on_a_nan_does_not_stay(case: Case, shape_of: tuple[int, ...]) -> None:
    layer = case.prepared()
    layer.nan_guard = True
    x = sample(shape_of)
    layer(x)
    for poison in (float("nan"), float("inf")):
        spoilt = x.clone()
        spoilt[0, 1] = poison
        layer(spoilt)
        assert all(value.isfinite().all() for value in layer.state_dict().values())
    for _ in range(3):
        layer(x)
    assert layer(x).isfinite().all()


@pytest.mark.where(lambda case: isinstance(case.make(), BatchNorm))
def test_where_a_count_is_the_weight_only_what_is_averaged_counts(case: Case, shape_of: tuple[int, ...]) -> None:
    layer = case.prepared()
    layer.nan_guard, layer.momentum = True, None
    layer.reset_running_stats()
    other, good = twin(layer), [sample(shape_of, seed) for seed in range(3)]
    spoilt = good[0].clone()
    spoilt[0, 1] = float("nan")
    for x in (spoilt, spoilt[:0], good[0], spoilt, good[1], spoilt[:0], good[2]):
        layer(x)
    for x in good:
        other(x)
    for name, value in other.state_dict().items():
        if "window_" not in name:
            torch.testing.assert_close(layer.state_dict()[name], value, rtol=1e-12, atol=1e-12, msg=name)
