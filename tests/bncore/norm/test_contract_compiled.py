"""Every layer compiled as one graph and exported: outputs, gradients and statistics are those of eager execution."""

import shutil

import pytest
import torch
from torch.export import Dim, export

from tests.bncore.norm.case import Case, sample, twin

# Two minutes in all; layers whose compiled pass is told apart have tests of their own. All of the warnings come out of
# the compiler itself.
pytestmark = [
    pytest.mark.system,
    pytest.mark.filterwarnings("ignore:.*_prims_common.check:FutureWarning"),
    pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*autograd.function.Function.* should not be instantiated:DeprecationWarning"),
]

BACKENDS = [
    # Recomputes in the backward pass what it can: where a layer reads statistics that it then updates, this shows it.
    "aot_eager_decomp_partition",
    # What users get. It compiles C++ for seconds a layer.
    pytest.param(
        "inductor",
        marks=[pytest.mark.slow, pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")],
    ),
]


@pytest.mark.parametrize("backend", BACKENDS)
def test_compiled_as_one_graph_it_gives_the_eager_numbers(case: Case, shape_of: tuple[int, ...], backend: str) -> None:
    torch._dynamo.reset()
    eager = case.prepared(torch.float32)
    other = twin(eager)
    compiled = torch.compile(other, backend=backend, fullgraph=True)
    for step in range(3):
        x = sample(shape_of, seed=step).float().requires_grad_()
        y = x.detach().clone().requires_grad_()
        first, second = eager(x), compiled(y)
        torch.testing.assert_close(second, first, rtol=1e-4, atol=1e-5)
        first.sin().sum().backward()
        second.sin().sum().backward()
        torch.testing.assert_close(y.grad, x.grad, rtol=1e-3, atol=1e-4)
        for mine, theirs in zip(other.parameters(), eager.parameters(), strict=True):
            torch.testing.assert_close(mine.grad, theirs.grad, rtol=1e-3, atol=1e-4)
        for name, value in eager.state_dict().items():
            torch.testing.assert_close(other.state_dict()[name], value, rtol=1e-4, atol=1e-5, msg=name)
    x = sample(shape_of).float()
    other.eval()
    torch.testing.assert_close(compiled(x), eager.eval()(x), rtol=1e-4, atol=1e-5)


def larger(shape: tuple[int, ...]) -> tuple[int, ...]:
    """More of everything but channels."""
    return tuple(size if axis == 1 else 2 * size + 1 for axis, size in enumerate(shape))


@pytest.mark.parametrize("mode", ["training", "evaluation"])
def test_exported_with_batch_and_positions_left_open_it_gives_the_same(
    case: Case, shape_of: tuple[int, ...], mode: str
) -> None:
    layer, training = case.prepared(torch.float32).train(mode == "training"), mode == "training"
    left_open = {axis: Dim.DYNAMIC for axis in range(len(shape_of)) if axis != 1}
    x = sample(shape_of).float()
    if training and not case.trains_exported:
        with pytest.raises(RuntimeError, match="export it in evaluation mode"):
            export(layer, (x,), dynamic_shapes=(left_open,))
        return
    program = export(twin(layer), (x,), dynamic_shapes=(left_open,)).module()
    for shape in (shape_of, larger(shape_of)):
        pair = [sample(shape, seed=2).float().requires_grad_() for _ in range(2)]
        found, expected = program(pair[0]), layer(pair[1])
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
        found.sin().sum().backward()
        expected.sin().sum().backward()
        torch.testing.assert_close(pair[0].grad, pair[1].grad, rtol=1e-3, atol=1e-4)
    turned = x.movedim(1, -1).contiguous().movedim(-1, 1)
    torch.testing.assert_close(program(turned), layer(turned), rtol=1e-4, atol=1e-5)
    for name, parameter in layer.named_parameters():
        torch.testing.assert_close(program.get_parameter(name).grad, parameter.grad, rtol=1e-3, atol=1e-4, msg=name)
    for name, buffer in layer.named_buffers():
        torch.testing.assert_close(program.get_buffer(name), buffer, rtol=1e-4, atol=1e-5, msg=name)


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
def test_a_trace_does_not_depend_on_whether_gradients_were_wanted(case: Case, shape_of: tuple[int, ...]) -> None:
    layer, x = case.prepared(torch.float32).eval(), sample(shape_of).float()
    with_gradients = torch.jit.trace(layer, (x.clone().requires_grad_(),))
    with torch.no_grad():
        without = torch.jit.trace(layer, (x,))
    nodes = [[node.kind() for node in trace.inlined_graph.nodes()] for trace in (with_gradients, without)]
    assert nodes[0] == nodes[1]
    more = torch.cat((x, x + 1))
    torch.testing.assert_close(with_gradients(more), layer(more), rtol=1e-5, atol=1e-6)
