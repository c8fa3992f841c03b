"""Whether the batches that are asked for can be made of the data."""

from collections.abc import Iterator

from bncore.spec.data import DataShape, DataSpec
from bncore.spec.data.augment import augment_faults
from bncore.spec.data.sampler import sampler_faults
from bncore.spec.faults import Fault


def batch_faults(data: DataSpec, sizes: DataShape, batch_size: int) -> Iterator[Fault]:
    """What sampler and augmentations cannot do with such examples."""
    for pointer, detail, code in augment_faults(data.augment, sizes):
        yield Fault(f"/data{pointer}", detail, code)
    for pointer, detail, code in sampler_faults(data.sampler, sizes, batch_size):
        yield Fault(pointer, detail, code)
