"""What `dataset.json` says: the one description of a data set that somebody brought in.

Invariant: its text is canonical and names the SHA-256 of every array, so that the SHA-256 of that text stands for all
of the content.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from bncore.spec.blueprint.signal import Signal
from bncore.spec.data.shape import Task
from bncore.spec.faults import faults_of
from bncore.spec.strict import SpecModel

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Size = Annotated[int, Field(ge=1, le=1_000_000)]
Examples = Annotated[int, Field(ge=1, le=1_000_000_000)]
Outputs = Annotated[int, Field(ge=1, le=65_536)]

_AXES = {"vector": 1, "image": 3, "sequence": 2}


class SignalSpec(SpecModel):
    """One example without the batch axis: a vector [F], an image [C, H, W], a sequence [L, F], maybe with lengths."""

    kind: Literal["vector", "image", "sequence"]
    shape: Annotated[tuple[Size, ...], Field(strict=False, min_length=1, max_length=3)]
    lengths: bool = False

    @model_validator(mode="after")
    def _has_the_axes_of_its_kind(self) -> "SignalSpec":
        if len(self.shape) != _AXES[self.kind]:
            detail = f"{_AXES[self.kind]} numbers are the shape of a {self.kind}"
            raise PydanticCustomError("cross_field", "shape", {"faults": [("/shape", detail, "wrong_shape")]})
        if self.lengths and self.kind != "sequence":
            fault = ("/lengths", "Only sequences have lengths", "wrong_shape")
            raise PydanticCustomError("cross_field", "lengths", {"faults": [fault]})
        return self

    def signal(self) -> Signal:
        """The same for a network."""
        return Signal(self.shape, self.kind, lengths=self.lengths)


class _Recorded(SpecModel):
    # What a later version adds is not for this one; `version` says when a meaning has changed.
    model_config = ConfigDict(extra="ignore")


class ArraySpec(_Recorded):
    """One array of a part: a file in the .npy format 1.0, C order, little endian, beside `dataset.json`."""

    file: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,99}\.npy$")]
    dtype: Literal["uint8", "float32", "int64", "int32"]
    shape: Annotated[tuple[int, ...], Field(strict=False, min_length=1, max_length=4)]
    size: int = Field(ge=1, description="Bytes of the file, its header included.")
    sha256: Sha256


class PartSpec(_Recorded):
    """The training, the validation or the test part."""

    examples: Examples
    inputs: ArraySpec
    targets: ArraySpec
    lengths: ArraySpec | None = None
    class_counts: Annotated[tuple[int, ...], Field(strict=False)] | None = None

    def arrays(self) -> dict[str, ArraySpec]:
        """Those that there are, by name."""
        every = {"inputs": self.inputs, "targets": self.targets, "lengths": self.lengths}
        return {name: array for name, array in every.items() if array is not None}


class PartsSpec(_Recorded):
    train: PartSpec
    validation: PartSpec | None = None
    test: PartSpec | None = None

    def named(self) -> dict[str, PartSpec]:
        """Those that there are, by name."""
        every = {"train": self.train, "validation": self.validation, "test": self.test}
        return {name: part for name, part in every.items() if part is not None}


class Manifest(_Recorded):
    """A data set in canonical form: what its examples are, and the arrays that hold them."""

    version: Literal[1]
    signal: SignalSpec
    task: Task
    outputs: Outputs
    classes: Annotated[tuple[str, ...], Field(strict=False)] | None = None
    parts: PartsSpec

    @model_validator(mode="after")
    def _arrays_hold_such_examples(self) -> "Manifest":
        faults = [
            (f"/parts/{part}/{name}", f"Should be {wanted or 'left out'}", "wrong_array")
            for part, record in self.parts.named().items()
            for name, wanted, found in self._wanted_and_found(record)
            if wanted != found
        ]
        if faults:
            raise PydanticCustomError("cross_field", "arrays that do not fit", {"faults": faults})
        return self

    def _wanted_and_found(self, part: PartSpec) -> Iterator[tuple[str, tuple[Any, ...] | None, tuple[Any, ...] | None]]:
        """Of each array its type and shape."""
        count, steps = part.examples, self.signal.shape[0]
        targets = {
            "classification": ("int64", (count,)),
            "tagging": ("int64", (count, steps)),
            "regression": ("float32", (count, self.outputs)),
        }
        wanted = {
            "inputs": ("uint8" if self.signal.kind == "image" else "float32", (count, *self.signal.shape)),
            "targets": targets[self.task],
            "lengths": ("int32", (count,)) if self.signal.lengths else None,
        }
        for name, kind in wanted.items():
            array: ArraySpec | None = getattr(part, name)
            yield name, kind, None if array is None else (array.dtype, array.shape)


class ManifestInvalid(ValueError):
    """What should be the content of `dataset.json`, and is not."""


def read_manifest(manifest: Mapping[str, Any]) -> Manifest:
    """The content of `dataset.json` as a class. Raises `ManifestInvalid`, which says where it is wrong."""
    try:
        return Manifest.model_validate(manifest)
    except ValidationError as error:
        said = "; ".join(f"{fault.pointer}: {fault.detail}" for fault in faults_of(error, Manifest)[:3])
        raise ManifestInvalid(f"dataset.json: {said}") from None


def canonical_text(manifest: Mapping[str, Any]) -> str:
    """The text of `dataset.json`: sorted keys, no spaces, a newline at the end."""
    return json.dumps(manifest, sort_keys=True, separators=(",", ":"), allow_nan=False) + "\n"


def sha256_of(manifest: Mapping[str, Any]) -> str:
    """SHA-256 of that text, in hex: what the data set is known by."""
    return hashlib.sha256(canonical_text(manifest).encode()).hexdigest()
