"""What normalization layers cost, forward and backward, over `torch.nn.BatchNorm2d`: `python -m bench.norms`.

Every layer is timed in turns with `torch.nn.BatchNorm2d` in one process, the order drawn anew each round; a ratio is
the median over the rounds. The first line compares `BatchNorm2d` with itself: what it strays from 1 is the noise.
`own` is the ratio to torch's own layer of that kind. `saved` is the memory kept for the backward pass over that of the
input. The same on CUDA: `--device cuda`.
"""

import argparse
import random
import statistics
import sys
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

import bncore.norm as norms

SHAPES = [(32, 64, 56, 56), (64, 256, 14, 14), (16, 512, 7, 7)]
FORMATS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
Make = Callable[[int], nn.Module]


class _Masked(nn.Module):
    """With a mask that leaves out about a third of the positions."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layer = norms.MaskedBatchNorm(channels)
        self.mask: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        if self.mask is None:
            self.mask = torch.rand(x.shape[0], *x.shape[2:], device=x.device) < 0.64
        y: Tensor = self.layer(x, self.mask)
        return y


class _RmsOverImages(nn.Module):
    """torch's RMS norm over channels and positions, without its scale per value, and a scale per channel behind it."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.rms_norm(x, x.shape[1:], None, 1e-6) * self.weight


LAYERS: dict[str, Make] = {
    "torch.nn.BatchNorm2d": nn.BatchNorm2d,
    "BatchNorm": norms.BatchNorm,
    "BatchRenorm": lambda c: norms.BatchRenorm(c, warmup_steps=0),
    "GhostBatchNorm": lambda c: norms.GhostBatchNorm(c, virtual_batch_size=8),
    "SyncBatchNorm": norms.SyncBatchNorm,
    "FrozenBatchNorm": norms.FrozenBatchNorm,
    "NoisyBatchNorm": norms.NoisyBatchNorm,
    "LpBatchNorm": norms.LpBatchNorm,
    "L1BatchNorm": norms.L1BatchNorm,
    "DecorrelatedBatchNorm": lambda c: norms.DecorrelatedBatchNorm(c, num_groups=c // 16),
    "IterNorm": lambda c: norms.IterNorm(c, num_groups=c // 16),
    "DomainBatchNorm": lambda c: norms.DomainBatchNorm(c, num_domains=2),
    "CrossIterationBatchNorm": norms.CrossIterationBatchNorm,
    "MovingAverageBatchNorm": norms.MovingAverageBatchNorm,
    "PowerNorm": norms.PowerNorm,
    "MaskedBatchNorm": _Masked,
    "LayerNorm": norms.LayerNorm,
    "InstanceNorm": norms.InstanceNorm,
    "GroupNorm": norms.GroupNorm,
    "RMSNorm": norms.RMSNorm,
    "FilterResponseNorm": norms.FilterResponseNorm,
    "EvoNormB0": norms.EvoNormB0,
    "EvoNormS0": norms.EvoNormS0,
    "BatchInstanceNorm": norms.BatchInstanceNorm,
    "SwitchableNorm": norms.SwitchableNorm,
    "GlobalResponseNorm": norms.GlobalResponseNorm,
    "DynamicTanh": norms.DynamicTanh,
}
OWN: dict[str, Make] = {
    "LayerNorm": lambda c: nn.GroupNorm(1, c),
    "InstanceNorm": lambda c: nn.InstanceNorm2d(c, affine=True),
    "GroupNorm": lambda c: nn.GroupNorm(32, c),
    "RMSNorm": _RmsOverImages,
}


def main() -> None:
    """Print a line for each layer and shape."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--only", nargs="*", choices=list(LAYERS))
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    chosen = [name for name in LAYERS if arguments.only is None or name in arguments.only]
    sys.stdout.write(f"torch {torch.__version__}, {arguments.device}, {arguments.threads} threads\n")
    for shape in SHAPES:
        for name, memory_format in FORMATS.items():
            x = torch.randn(shape, device=arguments.device).to(memory_format=memory_format)
            sys.stdout.write(f"\n{'x'.join(map(str, shape))} {name}\n{'':28}{'ratio':>7}{'own':>7}{'saved':>7}\n")
            for layer in chosen:
                _report(layer, x, arguments.rounds)


def _report(name: str, x: Tensor, rounds: int) -> None:
    channels = x.shape[1]
    rivals = {"plain": nn.BatchNorm2d, "mine": LAYERS[name]}
    if name in OWN:
        rivals["own"] = OWN[name]
    layers = {key: make(channels).to(x.device) for key, make in rivals.items()}
    seconds: dict[str, list[float]] = {key: [] for key in layers}
    order = list(layers)
    for number in range(rounds + 2):
        random.shuffle(order)
        for key in order:
            taken = _seconds(layers[key], x)
            if number >= 2:
                seconds[key].append(taken)
    own = f"{_ratio(seconds['mine'], seconds['own']):7.2f}" if name in OWN else " " * 7
    saved = _saved_bytes(layers["mine"], x) / (x.numel() * x.element_size())
    sys.stdout.write(f"{name:28}{_ratio(seconds['mine'], seconds['plain']):7.2f}{own}{saved:7.2f}\n")
    sys.stdout.flush()


def _ratio(mine: list[float], theirs: list[float]) -> float:
    return statistics.median(a / b for a, b in zip(mine, theirs, strict=True))


def _seconds(layer: nn.Module, x: Tensor) -> float:
    """One forward and one backward pass, long enough to be measured: small inputs several times."""
    repeats = max(1, 2_000_000 // x.numel())
    x = x.detach().requires_grad_()
    gradient = torch.ones_like(x)
    _wait(x)
    began = time.perf_counter()
    for _ in range(repeats):
        x.grad = None
        layer(x).backward(gradient)
    _wait(x)
    return time.perf_counter() - began


def _wait(x: Tensor) -> None:
    if x.is_cuda:
        torch.cuda.synchronize()


def _saved_bytes(layer: nn.Module, x: Tensor) -> int:
    """Bytes that one forward pass keeps for the backward pass, parameters aside; what is kept twice counts once."""
    kept: dict[int, int] = {}
    parameters = {parameter.data_ptr() for parameter in layer.parameters()}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if tensor.data_ptr() not in parameters:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        # Held until the end: memory that is freed is given out again under the same address.
        output = layer(x.detach().requires_grad_())
    del output
    return sum(kept.values())


if __name__ == "__main__":
    main()
