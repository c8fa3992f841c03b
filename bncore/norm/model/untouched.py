"""A model that is looked at, and put back as it was."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from bncore.norm.model.parts import buffers_of


@contextmanager
def untouched(model: nn.Module) -> Iterator[None]:
    """Behind it, buffers and the random streams of all devices are what they were, bit for bit."""
    before = [(buffer, buffer.clone()) for buffer in buffers_of(model)]
    devices = range(torch.cuda.device_count()) if torch.cuda.is_available() else ()
    try:
        with torch.random.fork_rng(devices=devices):
            yield
    finally:
        with torch.no_grad():
            for buffer, value in before:
                buffer.copy_(value)
