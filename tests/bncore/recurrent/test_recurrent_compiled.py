"""Recurrent layers compiled as one graph and exported: the numbers and statistics are those of eager execution."""

import pytest
import torch
from torch import Tensor, nn

from tests.bncore.recurrent.oracle import make, padded, sequences, twin


@pytest.mark.parametrize(
    ("kind", "options", "lengths", "backend"),
    [
        # Recomputes in the backward pass what it can: where a layer reads statistics that it then updates, it shows.
        ("bn-lstm", {"momentum": None}, torch.tensor([1, 2, 1]), "aot_eager_decomp_partition"),
        pytest.param("bn-gru", {"max_length": 1}, None, "aot_eager_decomp_partition", marks=pytest.mark.system),
        ("ln-lstm", {}, None, "eager"),
        pytest.param("ln-gru", {}, torch.tensor([1, 2, 0]), "eager", marks=pytest.mark.system),
    ],
    ids=str,
)
@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_compiled_as_one_graph_it_gives_the_eager_numbers(
    kind: str, options: dict[str, object], lengths: Tensor | None, backend: str
) -> None:
    torch._dynamo.reset()
    eager = make(kind, torch.float32, **options)
    other = twin(eager)
    compiled = torch.compile(other, backend=backend, fullgraph=True)
    for seed in range(3):
        x = padded(sequences((2,) * 3, seed))[0].float().requires_grad_()
        y = x.detach().clone().requires_grad_()
        first, second = eager(x, None, lengths)[0], compiled(y, None, lengths)[0]
        torch.testing.assert_close(second, first, rtol=1e-4, atol=1e-5)
        first.sin().sum().backward()
        second.sin().sum().backward()
        torch.testing.assert_close(y.grad, x.grad, rtol=1e-3, atol=1e-4)
        for mine, theirs in zip(other.parameters(), eager.parameters(), strict=True):
            torch.testing.assert_close(mine.grad, theirs.grad, rtol=1e-3, atol=1e-3)
        for name, value in eager.state_dict().items():
            torch.testing.assert_close(other.state_dict()[name], value, rtol=1e-4, atol=1e-5, msg=name)


class _OutputOnly(nn.Module):
    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        return self.layer(x, None, lengths)[0]


@pytest.mark.parametrize("kind", ["bn-lstm", "ln-gru"])
def test_exported_for_evaluation_it_gives_the_same_for_any_number_of_sequences(kind: str) -> None:
    layer = _OutputOnly(make(kind, torch.float32)).eval()
    x, lengths = padded(sequences((2, 2, 1)))
    left_open = ({1: torch.export.Dim.DYNAMIC}, {0: torch.export.Dim.DYNAMIC})
    program = torch.export.export(layer, (x.float(), lengths), dynamic_shapes=left_open).module()
    for given in ((2, 2, 1), (1, 2, 2, 1, 2)):
        x, lengths = padded(sequences(given))
        torch.testing.assert_close(program(x.float(), lengths), layer(x.float(), lengths), rtol=1e-5, atol=1e-6)
