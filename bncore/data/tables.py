"""Tables of scikit-learn's, which come with the package, in one fixed split by class."""

import functools
from importlib import resources

import numpy as np
import torch

from bncore.data.dataset import DataSet, Examples
from bncore.data.stratified import stratified
from bncore.spec.data import BreastCancerSpec, WineSpec


def load_table(spec: WineSpec | BreastCancerSpec) -> DataSet:
    """Inputs (N, features) as they were measured, and classes; whose they are is in the `.md` beside the file."""
    inputs, targets = _read(spec.kind)
    train, test = map(torch.from_numpy, stratified(targets.numpy(), spec.all_train_examples()))
    every = Examples(inputs, targets)
    return DataSet(every.select(train), every.select(test), len(spec.class_sizes()))


@functools.cache
def _read(name: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Of all examples. The first line of the file counts and names; the last number of a line is its class."""
    with resources.files(__package__).joinpath(f"{name}.csv").open() as file:
        table = np.loadtxt(file, delimiter=",", skiprows=1)
    return torch.from_numpy(table[:, :-1].astype(np.float32)), torch.from_numpy(table[:, -1].astype(np.int64))
