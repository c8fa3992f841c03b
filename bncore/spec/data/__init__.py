"""Which data set: a kind a module. Sizes stand here because a spec is checked where the data are not.

A new data set is a module with one class that says its `shape`, a member of the union, and what loads it in
`bncore.data`.
"""

from functools import lru_cache
from typing import Annotated

from pydantic import Field

from bncore.spec.data.dataset import DatasetSpec, complete, named_dataset
from bncore.spec.data.digits import DigitsSpec
from bncore.spec.data.manifest import Manifest, ManifestInvalid
from bncore.spec.data.mnist5k import Mnist5kSpec
from bncore.spec.data.pixels import Presentation
from bncore.spec.data.santurkar_linear import SanturkarLinearSpec
from bncore.spec.data.shape import DataShape, Task
from bncore.spec.data.shift import ShiftSpec
from bncore.spec.data.tables import BreastCancerSpec, WineSpec
from bncore.spec.data.validation import ValidationSpec
from bncore.spec.data.variable_length import VariableLengthSpec
from bncore.spec.usual import usual

__all__ = [
    "BreastCancerSpec",
    "DataShape",
    "DataSpec",
    "DatasetSpec",
    "DigitsSpec",
    "Manifest",
    "ManifestInvalid",
    "Mnist5kSpec",
    "Presentation",
    "SanturkarLinearSpec",
    "ShiftSpec",
    "Task",
    "ValidationSpec",
    "VariableLengthSpec",
    "WineSpec",
    "complete",
    "data_shape",
    "named_dataset",
]


_DataSets = (
    DigitsSpec | Mnist5kSpec | VariableLengthSpec | SanturkarLinearSpec | WineSpec | BreastCancerSpec | DatasetSpec
)
DataSpec = Annotated[_DataSets, Field(discriminator="kind"), usual(_DataSets, DigitsSpec)]


@lru_cache(maxsize=256)
def data_shape(data: DataSpec) -> DataShape:
    """The sizes of the data set that `data` names; remembered for the 256 seen last."""
    return data.shape()
