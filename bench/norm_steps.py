"""What a layer that wraps a native kernel costs a small network over torch's own: `python -m bench.norm_steps`.

The network is an MLP of three linear layers with two norms, small enough that a norm is a part of it: a step is the
forward pass, the backward pass and fused SGD; an evaluation is a forward pass without gradients. Both networks take
turns in one process, in an order drawn anew each round, and are made anew now and then, for where their memory lies. A
ratio is the median over the rounds of CPU time, with the 95 % interval of a median; `quiet` is the ratio of the lowest
deciles, for a machine that does something else besides. The first line compares torch's layer with itself: what it
strays from 1 is the noise.

`--first-derivatives-only` measures as the service trains, where nobody watches for third derivatives, which torch's
kernels give wrong and ours refuse. Where torch has no such layer, ours is set to compute what torch's batch norm does;
a frozen one is written by hand.
"""

import argparse
import contextlib
import gc
import random
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import nn

import bncore.norm as norms
from bench import rivals

BATCH, INPUTS, CLASSES = 128, 64, 10
Make = Callable[[int], nn.Module]


@dataclass(frozen=True)
class Pair:
    """Two layers that compute the same, each made for a number of channels."""

    mine: Make
    theirs: Make
    over_positions: bool = False
    """Whether the features of a linear layer are positions of a few channels, and not channels."""


PAIRS: dict[str, Pair] = {
    "torch.nn.BatchNorm1d": Pair(nn.BatchNorm1d, nn.BatchNorm1d),
    "BatchNorm": Pair(norms.BatchNorm, nn.BatchNorm1d),
    "BatchNorm, nan_guard": Pair(lambda c: norms.BatchNorm(c, nan_guard=True), nn.BatchNorm1d),
    "SyncBatchNorm": Pair(norms.SyncBatchNorm, nn.SyncBatchNorm),
    "DomainBatchNorm": Pair(lambda c: norms.DomainBatchNorm(c, num_domains=2), nn.BatchNorm1d),
    "GhostBatchNorm, one group": Pair(lambda c: norms.GhostBatchNorm(c, BATCH), nn.BatchNorm1d),
    "MaskedBatchNorm, no mask": Pair(norms.MaskedBatchNorm, nn.BatchNorm1d),
    "FrozenBatchNorm": Pair(norms.FrozenBatchNorm, rivals.Frozen),
    "LayerNorm": Pair(norms.LayerNorm, nn.LayerNorm),
    "GroupNorm": Pair(lambda c: norms.GroupNorm(c, 4), lambda c: nn.GroupNorm(4, c)),
    "InstanceNorm": Pair(norms.InstanceNorm, lambda c: nn.InstanceNorm1d(c, affine=True), over_positions=True),
    # Without a number for eps, as is torch's default, the kernel is a little quicker.
    "RMSNorm": Pair(norms.RMSNorm, lambda c: nn.RMSNorm(c, eps=1e-6)),
}


def main() -> None:
    """Print a line for each layer."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=400)
    parser.add_argument("--steps", type=int, default=5, help="steps of one network before it is the other's turn")
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--only", nargs="*", choices=list(PAIRS))
    parser.add_argument("--first-derivatives-only", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    gc.disable()
    sys.stdout.write(
        f"torch {torch.__version__}, {arguments.threads} threads, batch {BATCH}, width {arguments.width}\n"
        f"{'':26}{'step, us':>9}  {'ratio':20}{'quiet':>8}  {'eval, us':>9}  {'ratio':20}{'quiet':>8}\n"
    )
    with norms.first_derivatives_only() if arguments.first_derivatives_only else contextlib.nullcontext():
        for name, pair in PAIRS.items():
            if arguments.only is None or name in arguments.only:
                _report(name, pair, arguments.width, arguments.rounds, arguments.steps)


@dataclass
class _Times:
    """Seconds of a step and of an evaluation, of each round."""

    step: list[float] = field(default_factory=list)
    evaluation: list[float] = field(default_factory=list)


class _Running:
    """A network that is trained, and its batch."""

    def __init__(self, make: Make, width: int, over_positions: bool) -> None:
        rows = (BATCH // 4, 4) if over_positions else (BATCH,)
        channels = 4 if over_positions else width
        self.network = nn.Sequential(
            nn.Linear(INPUTS, width), make(channels), nn.ReLU(),
            nn.Linear(width, width), make(channels), nn.ReLU(),
            nn.Linear(width, CLASSES),
        )  # fmt: skip
        self.optimizer = torch.optim.SGD(self.network.parameters(), lr=0.01, fused=True)
        self.inputs, self.labels = torch.randn(*rows, INPUTS), torch.randint(CLASSES, (BATCH,))

    def seconds_a_step(self, repeats: int) -> float:
        self.network.train()
        began = time.process_time()
        for _ in range(repeats):
            loss = F.cross_entropy(self.network(self.inputs).view(-1, CLASSES), self.labels)
            self.optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            self.optimizer.step()
        return (time.process_time() - began) / repeats

    @torch.no_grad()
    def seconds_an_evaluation(self, repeats: int) -> float:
        self.network.eval()
        began = time.process_time()
        for _ in range(repeats):
            self.network(self.inputs)
        return (time.process_time() - began) / repeats


def _report(name: str, pair: Pair, width: int, rounds: int, steps: int, rebuilt_after: int = 20) -> None:
    mine, theirs = _Times(), _Times()
    for number in range(rounds):
        if number % rebuilt_after == 0:
            gc.collect()
            turns = [
                (times, _Running(make, width, pair.over_positions))
                for times, make in ((mine, pair.mine), (theirs, pair.theirs))
            ]
            for _, running in turns:
                running.seconds_a_step(steps)
        random.shuffle(turns)
        for times, running in turns:
            times.step.append(running.seconds_a_step(steps))
        for times, running in turns:
            times.evaluation.append(running.seconds_an_evaluation(2 * steps))
    columns = [_compared(ours, torchs) for ours, torchs in zip(_lists(mine), _lists(theirs), strict=True)]
    sys.stdout.write(f"{name:26}{'  '.join(columns)}\n")
    sys.stdout.flush()


def _lists(times: _Times) -> list[list[float]]:
    return [times.step, times.evaluation]


def _compared(mine: list[float], theirs: list[float]) -> str:
    ratios = sorted(one / other for one, other in zip(mine, theirs, strict=True))
    # The number of ratios below the median is binomial; its standard deviation is half the root of how many there are.
    off = min(round(0.98 * len(ratios) ** 0.5), (len(ratios) - 1) // 2)
    low, high = ratios[(len(ratios) - 1) // 2 - off], ratios[len(ratios) // 2 + off]
    quiet = [statistics.quantiles(times, n=10)[0] for times in (mine, theirs)]
    ratio, torchs = statistics.median(ratios), 1e6 * statistics.median(theirs)
    return f"{torchs:9.1f}  {ratio:.3f} [{low:.3f}, {high:.3f}] {quiet[0] / quiet[1]:7.3f}"


if __name__ == "__main__":
    main()
