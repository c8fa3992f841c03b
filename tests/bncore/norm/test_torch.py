"""What the library takes from torch without a promise is still as we know it: each failure here names what changed."""

import ast
import inspect
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import forward_ad, graph
from torch.backends import cudnn
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn.utils.parametrizations import weight_norm
from torch.utils.checkpoint import checkpoint

import bncore.norm._torch as private
from tests.bncore.norm.case import sample, standardized

LIBRARY = Path(inspect.getfile(private)).parents[1]
HOOKS = {
    "_backward_hooks",
    "_backward_pre_hooks",
    "_forward_hooks",
    "_forward_hooks_always_called",
    "_forward_hooks_with_kwargs",
    "_forward_pre_hooks",
    "_forward_pre_hooks_with_kwargs",
    "_is_full_backward_hook",
    "_load_state_dict_post_hooks",
    "_load_state_dict_pre_hooks",
    "_state_dict_hooks",
    "_state_dict_pre_hooks",
}


class Calls(nn.Module):
    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


@pytest.mark.parametrize(
    ("ours", "torchs"),
    [
        (private.AnyBatchNorm, [nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm]),
        (private.AnyInstanceNorm, [nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d]),
        (private.AnyConv, [nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d]),
        (private.AnyTransposedConv, [nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d]),
    ],
    ids=lambda one: one.__name__ if isinstance(one, type) else "",
)
def test_torchs_layers_still_have_one_class(ours: type[nn.Module], torchs: list[type[nn.Module]]) -> None:
    assert all(issubclass(cls, ours) for cls in torchs)
    assert not issubclass(nn.Linear, ours)


def test_torch_still_normalizes_weights_by_that_class() -> None:
    parametrizations = weight_norm(nn.Linear(3, 2)).parametrizations["weight"]
    assert isinstance(parametrizations[0], private.TorchWeightNorm)
    assert [name for name, _ in parametrizations.named_parameters()] == ["original0", "original1"]


def test_a_module_still_keeps_its_hooks_in_these_places() -> None:
    layer = nn.Linear(3, 2)
    assert {name for name in vars(layer) if "hook" in name} == HOOKS
    assert {"_parameters", "_buffers", "_modules"} <= vars(layer).keys()
    handle = layer.register_state_dict_pre_hook(lambda *_: None)
    layer.register_load_state_dict_pre_hook(lambda *_: None)
    (hook,) = layer._load_state_dict_pre_hooks.values()
    assert isinstance(hook, private.HookWithModule)
    assert hook.with_module
    handle.remove()


def test_a_convolution_still_says_how_it_pads_and_an_encoder_which_way_it_goes() -> None:
    assert tuple(nn.Conv2d(2, 2, 3, padding=(1, 2))._reversed_padding_repeated_twice) == (2, 2, 1, 1)
    layer = nn.TransformerEncoderLayer(4, 2, 8, batch_first=True)
    assert layer.activation_relu_or_gelu == 1
    assert nn.TransformerEncoder(layer, 1).use_nested_tensor


def test_transforms_and_forward_mode_can_still_be_told() -> None:
    seen = []

    def look(x: Tensor) -> Tensor:
        seen.append(private.transform() is not None)
        return x.sum()

    look(torch.ones(2))
    torch.func.vmap(look)(torch.ones(3, 2))
    torch.func.grad(look)(torch.ones(2))
    assert seen == [False, True, True]
    assert not private.forward_mode()
    with forward_ad.dual_level():
        assert private.forward_mode()


def test_backward_passes_and_their_stacks_of_gradients_can_still_be_told() -> None:
    seen = []
    x = torch.ones(2, requires_grad=True)
    y = x * 2
    y.register_hook(lambda grad: seen.append((private.graph_task() != -1, private.is_stack_of_gradients(grad))))
    assert private.graph_task() == -1
    torch.autograd.grad(y, x, torch.ones(2), retain_graph=True)
    torch.autograd.grad(y, x, torch.ones(3, 2), is_grads_batched=True)
    torch.func.vmap(lambda grad: seen.append((False, private.is_stack_of_gradients(grad))) or grad)(torch.ones(3, 2))
    assert seen == [(True, False), (True, True), (False, True)]


def test_squared_distances_still_broadcast() -> None:
    x, y = sample((4, 3, 2)), sample((3, 1))
    memory = torch.empty_like(x)
    private.squared_distances_in(memory, x, y)
    torch.testing.assert_close(memory, (x - y).square(), rtol=0, atol=0)


def test_twice_the_products_with_distances_still_broadcast() -> None:
    factor, x, y = sample((4, 3, 2)), sample((4, 3, 2), seed=2), sample((3, 1))
    memory = torch.empty_like(x)
    private.doubled_products_in(memory, factor, x, y)
    torch.testing.assert_close(memory, 2 * factor * (x - y), rtol=1e-14, atol=1e-14)


def test_the_kernel_of_batch_norm_still_writes_where_it_is_told() -> None:
    x, weight, bias, running = (
        sample((4, 5, 3)),
        sample((5,), seed=2),
        sample((5,), seed=3),
        sample((2, 5), seed=4).exp(),
    )
    memory, saved, moved = torch.empty(3, 4, 5, 3).double(), torch.empty(4, 5).double(), running.clone()
    private.batch_norm_in(memory[1], saved[1], saved[2], x, weight, bias, *moved, 0.25, 1e-3)
    mean, var = x.mean((0, 2)), x.var((0, 2), correction=0)
    scaled = standardized(x, (0, 2), 1e-3) * weight.unsqueeze(1) + bias.unsqueeze(1)
    torch.testing.assert_close(memory[1], scaled, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(saved[1:3], torch.stack((mean, (var + 1e-3).rsqrt())), rtol=1e-12, atol=1e-12)
    newest = torch.stack((mean, x.var((0, 2), correction=1)))
    torch.testing.assert_close(moved, running.lerp(newest, 0.25), rtol=1e-12, atol=1e-12)


def test_the_kernel_of_batch_norm_still_gives_statistics_alone() -> None:
    x = sample((7, 5))
    mean, var = private.batch_statistics(x)
    torch.testing.assert_close(mean, x.mean(0), rtol=1e-13, atol=1e-13)
    torch.testing.assert_close(var, x.var(0, correction=0), rtol=1e-13, atol=1e-13)


def test_the_kernel_of_batch_norm_still_gives_sums_of_a_gradient_alone() -> None:
    grad, x, mean, scale = sample((7, 5)), sample((7, 5), seed=2), sample((5,), seed=3), sample((5,), seed=4).exp()
    only = [False, True, True]
    nothing, products, sums = private.batch_norm_backward(grad, x, None, None, None, mean, scale, True, 0.0, only)
    assert nothing is None
    torch.testing.assert_close(products, (grad * (x - mean)).sum(0) * scale, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(sums, grad.sum(0), rtol=1e-12, atol=1e-12)


def test_it_can_still_be_asked_whether_cudnn_may_be_used() -> None:
    assert private.cudnn_enabled()
    with cudnn.flags(enabled=False):
        assert not private.cudnn_enabled()


@pytest.mark.filterwarnings("ignore:`torch.jit.trace` is deprecated:DeprecationWarning")
def test_it_can_still_be_told_whether_a_program_is_traced() -> None:
    seen = [private.is_tracing()]
    torch.jit.trace(lambda x: seen.append(private.is_tracing()) or x + 1, torch.ones(2), check_trace=False)
    assert seen == [False, True]


def test_it_can_still_be_told_whether_hooks_get_saved_tensors() -> None:
    assert not private.saves_elsewhere()
    with graph.saved_tensors_hooks(lambda tensor: tensor, lambda tensor: tensor):
        assert private.saves_elsewhere()


def test_a_hook_of_a_nodes_output_still_is_one_and_knows_the_node_that_runs() -> None:
    x = torch.ones(2, requires_grad=True)
    seen = []
    hook = private.output_hook(lambda grad: seen.append((grad.tolist(), private.autograd_node())))
    for factor in (2, 3):
        y = x * factor
        hook(y.grad_fn)
        # It is no hook of the output, which takes others.
        assert y._backward_hooks is None
        y.register_hook(lambda grad: grad * 2)
        assert private.autograd_node() is None
        y.sum().backward()
    assert [grad for grad, _ in seen] == [[1.0, 1.0], [1.0, 1.0]]
    assert all(node is not None for _, node in seen)
    assert x.grad.tolist() == [10.0, 10.0]


@pytest.mark.filterwarnings("ignore:`torch.jit.trace` is deprecated:DeprecationWarning")
def test_whoever_takes_part_in_operations_on_a_plain_tensor_can_still_be_told() -> None:
    x, seen = torch.ones(2), []

    def ask(x: Tensor) -> Tensor:
        seen.append(private.is_undisturbed(x))
        return x + 1

    ask(x)
    with torch.no_grad():
        ask(x.clone().requires_grad_())
    assert seen == [True, True]
    seen.clear()
    torch.func.vmap(ask)(torch.ones(3, 2))
    torch.func.grad(lambda x: ask(x).sum())(x)
    torch.func.jvp(ask, (x,), (x,))
    # The transform sees operations on a tensor that is none of its own, too.
    torch.func.vmap(lambda y: ask(x) + y)(torch.ones(3, 2))
    with forward_ad.dual_level():
        ask(x)
    torch.jit.trace(ask, x, check_trace=False)
    make_fx(ask, tracing_mode="fake")(x)
    torch.export.export(Calls(ask), (x,))
    torch.compile(ask, backend="eager")(x)
    ask(x.to("meta"))
    ask(nn.Parameter(x))
    assert seen == [False] * len(seen)
    assert len(seen) >= 11


def test_joined_processes_can_still_be_told(tmp_path: Path) -> None:
    assert private.process_group() is None
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/group", rank=0, world_size=1)
    try:
        assert torch.distributed.is_initialized()
        assert private.process_group() is not None
    finally:
        torch.distributed.destroy_process_group()
    assert private.process_group() is None


def test_what_traces_a_program_by_its_operations_can_still_be_told() -> None:
    counts = []
    make_fx(lambda t: counts.append(private.dispatch_modes()) or t + 1)(torch.ones(2))
    assert private.dispatch_modes() == 0
    assert counts[0] > 0


def test_what_the_engine_and_checkpointing_call_still_has_these_names() -> None:
    frames: list[tuple[str, str]] = []
    codes = []

    def note(*_: object) -> None:
        caller = sys._getframe()
        while caller is not None:
            frames.append((caller.f_globals.get("__name__", ""), caller.f_code.co_name))
            codes.append(caller.f_code)
            caller = caller.f_back

    class Noting(torch.autograd.Function):
        @staticmethod
        def forward(ctx: object, x: Tensor) -> Tensor:
            return x * 1

        @staticmethod
        def backward(ctx: object, grad: Tensor) -> Tensor:
            note()
            return grad

    Noting.apply(torch.ones(2, requires_grad=True)).sum().backward()
    assert private.BACKWARDS[0] in codes
    assert private.ENGINE in {module for module, _ in frames}

    def run(x: Tensor) -> Tensor:
        if len(runs) == 1:
            note()
        runs.append(1)
        return (x * x).exp()

    frames.clear()
    runs: list[int] = []
    checkpoint(run, torch.ones(2, requires_grad=True), use_reentrant=False).sum().backward()
    assert private.UNPACKS in frames


@pytest.mark.parametrize("reentrant", [True, False])
def test_what_repeats_a_run_can_still_be_told_from_all_others(reentrant: bool) -> None:
    first, again = [], []

    def run(x: Tensor) -> Tensor:
        first.append(private.checkpoints_at_first(sys._getframe()))
        again.append(private.checkpoint_that_repeats(sys._getframe()))
        return (x * x).exp()

    x = torch.ones(2, requires_grad=True)
    run(x)
    losses = [checkpoint(run, x, use_reentrant=reentrant).sum() for _ in range(2)]
    losses[0].backward()
    assert first[0] == first[3] == []
    assert again[:3] == [None] * 3
    assert again[3] in first[1]
    assert again[3] not in first[2]


@pytest.mark.parametrize(
    ("all_", "each"),
    [
        (private.clamp_max_all_, torch.clamp_max),
        (private.clamp_min_all_, torch.clamp_min),
        (private.multiply_all_, torch.mul),
        (private.divide_all_, torch.div),
    ],
)
def test_operations_on_lists_still_are_those_on_each(all_: Callable[..., None], each: Callable[..., Tensor]) -> None:
    tensors = [sample((2, 3)), sample((4,))]
    expected = [each(tensor, 0.7) for tensor in tensors]
    all_(tensors, 0.7)
    assert all(torch.equal(one, other) for one, other in zip(tensors, expected, strict=True))


def test_batch_norms_operators_still_take_and_give_the_same() -> None:
    assert str(private.batch_norm_backward.default._schema) == (
        "aten::native_batch_norm_backward(Tensor grad_out, Tensor input, Tensor? weight, Tensor? running_mean, "
        "Tensor? running_var, Tensor? save_mean, Tensor? save_invstd, bool train, float eps, bool[3] output_mask) "
        "-> (Tensor, Tensor, Tensor)"
    )
    x, grad = sample((12, 4)).requires_grad_(), sample((12, 4), seed=2)
    mean, var = torch.batch_norm_update_stats(x.detach(), torch.zeros(4).double(), torch.zeros(4).double(), 0.0)
    torch.testing.assert_close(mean, x.mean(0), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(var, x.var(0, correction=0), rtol=1e-12, atol=1e-12)
    y, *saved = torch.native_batch_norm(x.detach(), None, None, None, None, True, 0.0, 1e-3)
    torch.testing.assert_close(y, standardized(x, (0,), 1e-3), rtol=1e-12, atol=1e-12)
    into_x = private.batch_norm_backward(grad, x.detach(), None, None, None, *saved, True, 1e-3, [True, False, False])
    expected = torch.autograd.grad(standardized(x, (0,), 1e-3), x, grad)
    torch.testing.assert_close(into_x[0], expected[0], rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("training", [True, False])
def test_batch_norm_still_calls_that_operator_on_cpus(training: bool) -> None:
    x, vectors = sample((12, 4, 3)).float(), [sample((4,), seed).float().abs() for seed in range(4)]
    found = []
    for kernel, rest in ((torch.batch_norm, (1e-3, True)), (private.native_batch_norm, (1e-3,))):
        given = [one.clone() for one in (x, *vectors)]
        for one in given[:3]:
            one.requires_grad_()
        y = kernel(*given, training, 0.3, *rest)
        y = y if isinstance(y, Tensor) else y[0]
        (first,) = torch.autograd.grad(y.sin().sum(), given[0], create_graph=True)
        gradients = torch.autograd.grad(first.square().sum(), given[:3])
        found.append(([y, first, *gradients, *given[3:]], str(y.grad_fn).split()[0]))
    assert found[0][1] == found[1][1]
    assert all(torch.equal(*pair) for pair in zip(found[0][0], found[1][0], strict=True))


def private_names(tree: ast.AST) -> Iterator[str]:
    """What a module takes from torch by a name that begins with an underscore, or from its namespace of operators."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "torch":
            for name in (*(node.module or "").split("."), *(alias.name for alias in node.names)):
                if name.startswith("_"):
                    yield f"{node.module}: {name}"
        if isinstance(node, ast.Attribute):
            chain = ast.unparse(node).split(".")
            if chain[0] in ("torch", "F", "forward_ad") and (
                chain[-1].startswith("_") or chain[1:3] == ["ops", "aten"]
            ):
                yield ast.unparse(node)


@pytest.mark.parametrize("package", ["norm", "recurrent", "adapt", "diagnostics", "networks"])
def test_no_other_module_takes_what_is_not_promised(package: str) -> None:
    modules = [path for path in (LIBRARY / package).rglob("*.py") if path.name != "_torch.py"]
    assert modules
    found = {path.name: names for path in modules if (names := [*private_names(ast.parse(path.read_text()))])}
    assert not found
    assert len({*private_names(ast.parse(Path(inspect.getfile(private)).read_text()))}) > 10
