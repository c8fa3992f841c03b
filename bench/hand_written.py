"""The loop a careful person writes for one experiment: what the trainer is measured against.

Same model, data, batches and threads, over torch's own layers and its fused SGD; a layer that torch has not is written
by hand as well. It measures no loss, saves nothing, tells nobody.
"""

import time

import torch
import torch.nn.functional as F
from torch import nn

from bench.rivals import Renorm
from bncore.data import load_data
from bncore.networks import build_network
from bncore.norm import BatchNorm, BatchRenorm
from bncore.spec import ExperimentSpec, plan


def train_by_hand(spec: ExperimentSpec) -> float:
    """Train the spec's budget with plain SGD at a constant learning rate; the seconds it took."""
    torch.set_num_threads(spec.resources.threads)
    torch.manual_seed(spec.train.seed)
    planned = plan(spec)
    data = load_data(spec.data)
    inputs, labels, size = data.train.inputs, data.train.targets, spec.train.batch_size
    network = _plain(build_network(spec.network, planned.input_shape, planned.outputs))
    optimizer = torch.optim.SGD(network.parameters(), lr=spec.optimizer.lr, fused=True)
    began = time.perf_counter()
    step = 0
    while step < planned.total_steps:
        order = torch.randperm(len(inputs))
        for first in range(0, len(inputs), size):
            index = order[first : first + size]
            loss = F.cross_entropy(network(inputs[index]), labels[index])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            step += 1
            if step == planned.total_steps:
                break
    return time.perf_counter() - began


def _plain(network: nn.Sequential) -> nn.Sequential:
    """The same with normalization that knows nothing of this package."""
    for place, layer in enumerate(network):
        if isinstance(layer, BatchRenorm):
            network[place] = Renorm(layer.num_features)
        elif isinstance(layer, BatchNorm):
            is_behind_images = isinstance(network[place - 1], nn.Conv2d)
            network[place] = (nn.BatchNorm2d if is_behind_images else nn.BatchNorm1d)(layer.num_features)
    return network
