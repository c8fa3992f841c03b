"""What the pairs are tried on: every case of the contract suite, recurrent layers, weights that are normalized."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from bncore.norm import (
    CrossIterationBatchNorm,
    SkipInit,
    scaled_weight_standardization,
    spectral_norm,
    weight_centralization,
    weight_norm,
    weight_standardization,
)
from bncore.recurrent import BatchNormGRU, BatchNormLSTM, LayerNormGRU, LayerNormLSTM, SequenceBatchNorm
from tests.bncore.norm.case import cases
from tests.bncore.pairs.network import CHANNELS, CHANNELS_IN, AlongTime, Network

EXAMPLES = 8
POSITIONS = {3: (3,), 4: (3, 2)}


@dataclass(frozen=True)
class Subject:
    """A layer in a network, the same each time that it is made."""

    name: str
    layer: Callable[[], nn.Module]
    """In float64, no parameter or statistic at a value that hides a mistake."""
    rank: int
    arrange: Callable[[Network], None] | None = None
    """What is done to the network around it."""
    synchronized: bool = False
    """Whether several processes normalize as one."""

    @property
    def kind(self) -> str:
        """The layer's name in `docs/norms`, whatever the configuration."""
        return self.name.split(",")[0].split(" ")[0]

    @property
    def shape(self) -> tuple[int, ...]:
        return (EXAMPLES, CHANNELS_IN, *POSITIONS[self.rank])

    def network(self, dtype: torch.dtype) -> Network:
        with torch.random.fork_rng():
            torch.manual_seed(5)
            network = Network(self.layer(), self.rank)
            if self.arrange is not None:
                self.arrange(network)
        return network.to(dtype).train()


def subjects() -> list[Subject]:
    """Every layer of the library."""
    found = [
        Subject(case.name, case.prepared, len(case.shape), synchronized=case.name == "sync_batch_norm")
        for case in cases()
    ]
    sequences = {
        "batch_norm_lstm": lambda: BatchNormLSTM(CHANNELS, CHANNELS, max_length=2),
        "batch_norm_gru": lambda: BatchNormGRU(CHANNELS, CHANNELS, max_length=2),
        "layer_norm_lstm": lambda: LayerNormLSTM(CHANNELS, CHANNELS),
        "layer_norm_gru": lambda: LayerNormGRU(CHANNELS, CHANNELS),
        "sequence_batch_norm": lambda: SequenceBatchNorm(CHANNELS),
    }
    found += [
        Subject(name, lambda make=make: _moved(AlongTime(make()), torch.float64), 3) for name, make in sequences.items()
    ]
    found += [Subject("cross_iteration_batch_norm, following", lambda: CrossIterationBatchNorm(CHANNELS), 4, _follow)]
    weights = (
        weight_norm,
        spectral_norm,
        weight_centralization,
        weight_standardization,
        scaled_weight_standardization,
    )
    found += [Subject(by.__name__, nn.Identity, 4, lambda network, by=by: by(network.front) and None) for by in weights]
    return [*found, Subject("skip_init", lambda: SkipInit(0.7), 4)]


def of_torch() -> list[Subject]:
    """torch's own layers: what it refuses of them, it refuses of ours."""
    return [
        Subject("torch.nn.BatchNorm2d", lambda: _moved(nn.BatchNorm2d(CHANNELS), torch.float64), 4),
        Subject(
            "torch.nn.utils.parametrizations.weight_norm",
            nn.Identity,
            4,
            lambda network: torch.nn.utils.parametrizations.weight_norm(network.front) and None,
        ),
    ]


def _follow(network: Network) -> None:
    network.norm.follow(network.front)


def _moved(layer: nn.Module, dtype: torch.dtype) -> nn.Module:
    layer = layer.to(dtype)
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator, dtype=dtype))
    return layer
