"""PowerNorm over many steps against its algorithm written out by hand, and what its own backward pass entails."""

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from bncore.norm.power_norm import PowerNorm


def batches(count: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, 6, 4, 3, generator=generator, dtype=torch.float64) * 1.5 + 0.4


def upstream(count: int) -> Tensor:
    return torch.linspace(-1, 1, 4, dtype=torch.float64)[None, None, :, None] * batches(count, seed=1)


class ByHand:
    """PN-V and PN with averages as plain tensors; `forward` returns y and its backward pass."""

    def __init__(self, layer: PowerNorm) -> None:
        self.layer = layer
        self.psi2, self.nu = torch.ones(4, dtype=torch.float64), torch.zeros(4, dtype=torch.float64)
        self.seen = 0

    def forward(self, x: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        layer, warming = self.layer, self.seen < self.layer.warmup_steps
        rows = x.transpose(1, 2).reshape(-1, 4)
        batch = rows.square().mean(0)
        psi = ((batch if warming else self.psi2) + layer.eps).sqrt()
        self.psi2 = (1 - layer.forward_momentum) * self.psi2 + layer.forward_momentum * batch
        self.seen += 1
        z = rows / psi

        def backward(grad: Tensor) -> Tensor:
            g = grad.transpose(1, 2).reshape(-1, 4) * layer.weight.detach()
            product = (g * z).mean(0)
            into = (g - (product if warming else self.nu) * z) / psi
            share = layer.backward_momentum
            self.nu = self.nu * (1 - share * z.square().mean(0)) + share * product
            return into.view(6, 3, 4).transpose(1, 2)

        y = z * layer.weight.detach() + layer.bias.detach()
        return y.view(6, 3, 4).transpose(1, 2), backward


def layer_with(**options: object) -> PowerNorm:
    layer = PowerNorm(4, **options).double()
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([0.5, -1.0, 1.5, 2.0]))
        layer.bias.copy_(torch.tensor([0.1, 0.2, -0.3, 0.0]))
    return layer


def test_thirty_steps_follow_pn_v_and_then_pn_through_the_end_of_the_warm_up() -> None:
    layer = layer_with(warmup_steps=10, forward_momentum=0.2, backward_momentum=0.3)
    by_hand = ByHand(layer)
    for x, grad in zip(batches(30), upstream(30), strict=True):
        x.requires_grad_()
        y = layer(x)
        expected, backward = by_hand.forward(x.detach())
        torch.testing.assert_close(y, expected, rtol=1e-11, atol=1e-11)
        y.backward(grad)
        torch.testing.assert_close(x.grad, backward(grad), rtol=1e-10, atol=1e-11)
    torch.testing.assert_close(layer.running_square, by_hand.psi2, rtol=1e-11, atol=1e-12)
    torch.testing.assert_close(layer.running_product, by_hand.nu, rtol=1e-10, atol=1e-12)
    assert layer.num_batches_tracked == 30


def test_of_two_forward_passes_each_backward_pass_uses_the_average_that_the_one_before_left() -> None:
    layer = layer_with(warmup_steps=0)
    layer.running_product.copy_(torch.tensor([0.3, -0.2, 0.1, 0.5]))
    by_hand = ByHand(layer)
    by_hand.nu = layer.running_product.clone()
    inputs, (up, _) = [x.requires_grad_() for x in batches(2)], upstream(2)
    outputs, references = [layer(x) for x in inputs], [by_hand.forward(x.detach()) for x in inputs]
    for number in (1, 0):
        outputs[number].backward(up)
        torch.testing.assert_close(inputs[number].grad, references[number][1](up), rtol=1e-10, atol=1e-11)
    torch.testing.assert_close(layer.running_product, by_hand.nu, rtol=1e-10, atol=1e-12)


def test_where_nothing_changes_any_more_the_gradient_is_the_exact_one() -> None:
    layer, exact = layer_with(warmup_steps=0), layer_with(warmup_steps=10**9)
    x, grad = batches(1)[0], upstream(1)[0]
    for _ in range(400):
        mine, theirs = x.clone().requires_grad_(), x.clone().requires_grad_()
        layer(mine).backward(grad)
    exact(theirs).backward(grad)
    # mean(z^2) is square / (square + eps): what is left is of the size of eps.
    torch.testing.assert_close(mine.grad, theirs.grad, rtol=1e-4, atol=1e-4)


def test_parameters_get_the_gradients_of_the_forward_pass() -> None:
    layer = layer_with(warmup_steps=0)
    x, grad = batches(1)[0], upstream(1)[0]
    z = x / (1 + layer.eps) ** 0.5
    layer(x).backward(grad)
    torch.testing.assert_close(layer.weight.grad, (grad * z).sum((0, 2)), rtol=1e-11, atol=1e-11)
    torch.testing.assert_close(layer.bias.grad, grad.sum((0, 2)), rtol=1e-11, atol=1e-11)


def test_it_cannot_be_differentiated_again() -> None:
    x = batches(1)[0].requires_grad_()
    (grad,) = torch.autograd.grad(layer_with()(x).sin().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        grad.sum().backward()


@pytest.mark.parametrize("poison", [float("nan"), float("inf")])
def test_a_spoilt_gradient_does_not_stay_where_the_guard_is_on(poison: float) -> None:
    layer = layer_with(warmup_steps=0, nan_guard=True)
    x, grad = batches(1)[0].requires_grad_(), upstream(1)[0].clone()
    layer(x).backward(grad)
    before = layer.running_product.clone()
    grad[0, 1, 0] = poison
    layer(x).backward(grad)
    assert layer.running_product[1] == before[1]
    assert (layer.running_product != before).tolist() == [True, False, True, True]


def test_evaluation_divides_by_the_running_mean_and_has_its_plain_gradient() -> None:
    layer = layer_with(warmup_steps=0)
    layer(batches(1)[0]).sum().backward()
    before = copy.deepcopy(layer.state_dict())
    x = batches(1, seed=4)[0].requires_grad_()
    layer.eval()(x).backward(upstream(1)[0])
    expected = upstream(1)[0] * (layer.weight.detach() / (layer.running_square + layer.eps).sqrt())[:, None]
    torch.testing.assert_close(x.grad, expected, rtol=1e-11, atol=1e-11)
    assert all(torch.equal(layer.state_dict()[name], value) for name, value in before.items())


def test_without_affine_it_has_no_parameters() -> None:
    layer = PowerNorm(4, affine=False, warmup_steps=0).double()
    x = batches(1)[0].requires_grad_()
    y = layer(x)
    torch.testing.assert_close(y, x / (1 + layer.eps) ** 0.5, rtol=1e-12, atol=1e-12)
    y.sum().backward()
    assert list(layer.parameters()) == []
    assert set(layer.state_dict()) == {"running_square", "running_product", "num_batches_tracked"}


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:.*autograd.function.Function.* should not be instantiated:DeprecationWarning")
def test_compiled_the_order_of_backward_passes_is_kept_as_well() -> None:
    torch._dynamo.reset()
    eager = layer_with(warmup_steps=0)
    eager.running_product.copy_(torch.tensor([0.3, -0.2, 0.1, 0.5]))
    other = copy.deepcopy(eager)
    compiled = torch.compile(other, backend="aot_eager_decomp_partition", fullgraph=True)
    found = []
    for function in (eager, compiled):
        inputs = [x.requires_grad_() for x in batches(3)]
        outputs = [function(x) for x in inputs]
        for number in (2, 0, 1):
            outputs[number].sin().sum().backward()
        found.append([x.grad for x in inputs])
    torch.testing.assert_close(found[1], found[0], rtol=1e-11, atol=1e-11)
    torch.testing.assert_close(other.state_dict(), eager.state_dict(), rtol=1e-11, atol=1e-12)
