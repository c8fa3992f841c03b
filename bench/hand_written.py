"""The loop a careful person writes for one experiment: what the trainer is measured against.

Same network, data, batches, threads and duties: an order of its own each epoch, loss and metric of every step, an
evaluation and a checkpoint as often as the trainer makes them, the best weights kept. It is written over torch's own
layers and fused SGD; a layer that torch has not is written by hand as well. It tells nobody, survives nothing, and
syncs no file to the disk.
"""

import time
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.rivals import Renorm
from bncore.data import Examples, load_data
from bncore.networks import build_network
from bncore.norm import BatchNorm, BatchRenorm, LayerNorm
from bncore.spec import ExperimentSpec, data_shape, plan


@dataclass
class Times:
    """Seconds for the steps, and for all of it."""

    training: float
    whole: float


def train_by_hand(spec: ExperimentSpec) -> Times:
    """Train the spec's budget with plain SGD at a constant learning rate."""
    torch.set_num_threads(spec.resources.threads)
    torch.manual_seed(spec.train.seed)
    data, shape = load_data(spec.data), data_shape(spec.data)
    train, test = data.train.slice(0, data.train.size), data.test.slice(0, data.test.size)
    network = _plain(build_network(spec.network, shape.signal, shape.outputs), train.inputs[:2])
    with TemporaryDirectory() as folder:
        return _loop(spec, network, train, test, Path(folder))


def _loop(spec: ExperimentSpec, network: nn.Module, train: Examples, test: Examples, folder: Path) -> Times:
    optimizer = torch.optim.SGD(network.parameters(), lr=spec.optimizer.lr, fused=True)
    total, size, step, best = plan(spec).total_steps, spec.train.batch_size, 0, -float("inf")
    losses: list[Tensor] = []
    hits: list[Tensor] = []
    cadence = (spec.evaluation.every_steps, spec.checkpoint.every_steps)
    aside, began = 0.0, time.perf_counter()
    while step < total:
        order = torch.randperm(len(train.inputs))
        for first in range(0, min(len(order), size * (total - step)), size):
            index = order[first : first + size]
            inputs, labels = train.inputs[index], train.targets[index]
            outputs = network(inputs)
            loss = _loss(outputs, labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            step += 1
            losses.append(loss.detach())
            hits.append((outputs.argmax(1) == labels).sum() if labels.dim() == 1 else losses[-1])
            evaluates, saves = (step % every == 0 or step == total for every in cadence)
            if evaluates or saves:
                stopped = time.perf_counter()
                torch.stack(losses + hits).tolist()
                losses, hits = [], []
                best = max(best, _evaluate(network, test, best, folder) if evaluates else best)
                if saves:
                    torch.save([network.state_dict(), optimizer.state_dict()], folder / "last.pt")
                aside += time.perf_counter() - stopped
    whole = time.perf_counter() - began
    return Times(training=whole - aside, whole=whole)


def _loss(outputs: Tensor, labels: Tensor) -> Tensor:
    return F.mse_loss(outputs, labels) if labels.is_floating_point() else F.cross_entropy(outputs, labels)


@torch.no_grad()
def _evaluate(network: nn.Module, test: Examples, best: float, folder: Path, size: int = 1024) -> float:
    """The score; weights with the best one are kept."""
    network.eval()
    correct = loss = 0.0
    for first in range(0, len(test.inputs), size):
        outputs, labels = network(test.inputs[first : first + size]), test.targets[first : first + size]
        loss += _loss(outputs, labels).item() * len(labels)
        if not labels.is_floating_point():
            correct += (outputs.argmax(1) == labels).sum().item()
    network.train()
    score = -loss if test.targets.is_floating_point() else correct
    if score > best:
        torch.save(network.state_dict(), folder / "best.pt")
    return score


def _plain(network: nn.Module, inputs: Tensor) -> nn.Module:
    """The same with normalization that knows nothing of this package."""
    ranks = _ranks(network, inputs)
    for name, layer in list(network.named_modules()):
        parent, _, own = name.rpartition(".")
        if isinstance(layer, BatchRenorm):
            setattr(network.get_submodule(parent), own, Renorm(layer.num_features))
        elif type(layer) is BatchNorm:
            plain = nn.BatchNorm2d if ranks[name] == 4 else nn.BatchNorm1d
            setattr(network.get_submodule(parent), own, plain(layer.num_features))
        elif isinstance(layer, LayerNorm):
            # Of steps, along their features.
            assert ranks[name] == 3
            setattr(network.get_submodule(parent), own, nn.LayerNorm(layer.get_parameter("weight").numel()))
    return network


def _ranks(network: nn.Module, inputs: Tensor) -> dict[str, int]:
    """How many axes the input of each layer has."""
    ranks: dict[str, int] = {}
    handles = [
        layer.register_forward_pre_hook(lambda _, given, name=name: ranks.update({name: given[0].dim()}))
        for name, layer in network.named_modules()
    ]
    network.eval()
    with torch.no_grad():
        network(inputs)
    network.train()
    for handle in handles:
        handle.remove()
    return ranks
