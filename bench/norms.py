"""What normalization layers cost, forward and backward, over `torch.nn.BatchNorm2d`: `python -m bench.norms`.

Every layer is timed in turns with `torch.nn.BatchNorm2d` in one process, the order drawn anew each round; a ratio is
the median over the rounds of CPU time (on CUDA: of time until the device is done). The first line compares
`BatchNorm2d` with itself: what it strays from 1 is the noise. `rival` is the ratio to torch's own layer of that kind,
or where torch has none to one written by hand (`bench/rivals.py`). `saved` is the memory kept for the backward pass
over that of the input. `a call` is what our layers that wrap one native kernel add to a forward pass over torch's, in
microseconds: the least of many, on a small batch. The same on CUDA: `--device cuda`.
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
from bench import rivals

SHAPES = [(32, 64, 56, 56), (64, 256, 14, 14), (16, 512, 7, 7)]
FORMATS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
VIRTUAL_BATCH = 8
CALL_FEATURES = 100
Make = Callable[[int], nn.Module]


class _Masked(nn.Module):
    """With a mask that leaves out about a third of the positions."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer
        self.mask: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        if self.mask is None:
            self.mask = torch.rand(x.shape[0], *x.shape[2:], device=x.device) < 0.64
        y: Tensor = self.layer(x, self.mask)
        return y


LAYERS: dict[str, Make] = {
    "torch.nn.BatchNorm2d": nn.BatchNorm2d,
    "BatchNorm": norms.BatchNorm,
    "BatchRenorm": lambda c: norms.BatchRenorm(c, warmup_steps=0),
    "GhostBatchNorm": lambda c: norms.GhostBatchNorm(c, virtual_batch_size=VIRTUAL_BATCH),
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
    "MaskedBatchNorm": lambda c: _Masked(norms.MaskedBatchNorm(c)),
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
    "Noise": norms.Noise,
}
RIVALS: dict[str, Make] = {
    "BatchNorm": nn.BatchNorm2d,
    "BatchRenorm": rivals.Renorm,
    "GhostBatchNorm": lambda c: rivals.Ghost(c, virtual_batch_size=VIRTUAL_BATCH),
    "MaskedBatchNorm": lambda c: _Masked(rivals.Masked(c)),
    "LayerNorm": rivals.LayerNormOverImages,
    "InstanceNorm": lambda c: nn.InstanceNorm2d(c, affine=True),
    "GroupNorm": lambda c: nn.GroupNorm(32, c),
    "RMSNorm": rivals.RmsOverImages,
}

# Of one sample's features each, forward in training: there a layer of torch's is little more than its kernel.
CALLED: dict[str, tuple[Make, Make]] = {
    "BatchNorm": (norms.BatchNorm, nn.BatchNorm1d),
    "BatchNorm, evaluation": (lambda c: norms.BatchNorm(c).eval(), lambda c: nn.BatchNorm1d(c).eval()),
    "DomainBatchNorm": (lambda c: norms.DomainBatchNorm(c, num_domains=2), nn.BatchNorm1d),
    "LayerNorm": (norms.LayerNorm, nn.LayerNorm),
    "GroupNorm": (lambda c: norms.GroupNorm(c, 4), lambda c: nn.GroupNorm(4, c)),
    "RMSNorm": (norms.RMSNorm, nn.RMSNorm),
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
    for name, (mine, theirs) in CALLED.items():
        if arguments.only is None or name in chosen:
            _report_call(name, mine(CALL_FEATURES).to(arguments.device), theirs(CALL_FEATURES).to(arguments.device))
    for shape in SHAPES:
        for name, memory_format in FORMATS.items():
            x = torch.randn(shape, device=arguments.device).to(memory_format=memory_format)
            sys.stdout.write(f"\n{'x'.join(map(str, shape))} {name}\n{'':28}{'ratio':>7}{'rival':>7}{'saved':>7}\n")
            for layer in chosen:
                _report(layer, x, arguments.rounds)


def _report_call(name: str, mine: nn.Module, theirs: nn.Module) -> None:
    x = torch.randn(60, CALL_FEATURES, device=next(mine.parameters()).device, requires_grad=True)
    least = {layer: float("inf") for layer in (mine, theirs)}
    for _ in range(60):
        for layer in least:
            least[layer] = min(least[layer], _seconds_a_call(layer, x))
    mine_us, theirs_us = (1e6 * least[layer] for layer in (mine, theirs))
    sys.stdout.write(
        f"{name:28}{theirs_us:7.1f} us a call of torch's, ours {mine_us - theirs_us:+.1f} ({mine_us / theirs_us:.3f})\n"
    )


def _seconds_a_call(layer: nn.Module, x: Tensor, repeats: int = 200) -> float:
    began = time.process_time()
    for _ in range(repeats):
        layer(x)
    return (time.process_time() - began) / repeats


def _report(name: str, x: Tensor, rounds: int) -> None:
    channels = x.shape[1]
    makes = {"plain": nn.BatchNorm2d, "mine": LAYERS[name]}
    if name in RIVALS:
        makes["rival"] = RIVALS[name]
    layers = {key: make(channels).to(x.device) for key, make in makes.items()}
    seconds: dict[str, list[float]] = {key: [] for key in layers}
    order = list(layers)
    for number in range(rounds + 2):
        random.shuffle(order)
        for key in order:
            taken = _seconds(layers[key], x)
            if number >= 2:
                seconds[key].append(taken)
    rival = f"{_ratio(seconds['mine'], seconds['rival']):7.2f}" if name in RIVALS else " " * 7
    saved = _saved_bytes(layers["mine"], x) / (x.numel() * x.element_size())
    sys.stdout.write(f"{name:28}{_ratio(seconds['mine'], seconds['plain']):7.2f}{rival}{saved:7.2f}\n")
    sys.stdout.flush()


def _ratio(mine: list[float], theirs: list[float]) -> float:
    return statistics.median(a / b for a, b in zip(mine, theirs, strict=True))


def _seconds(layer: nn.Module, x: Tensor) -> float:
    """One forward and one backward pass, long enough to be measured: small inputs several times."""
    repeats = max(1, 2_000_000 // x.numel())
    x = x.detach().requires_grad_()
    gradient = torch.ones_like(x)
    clock = time.perf_counter if x.is_cuda else time.process_time
    _wait(x)
    began = clock()
    for _ in range(repeats):
        x.grad = None
        layer(x).backward(gradient)
    _wait(x)
    return clock() - began


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
