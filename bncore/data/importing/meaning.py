"""What arrays of inputs, targets and lengths mean: images, vectors or sequences, and a class or numbers for each."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from bncore.data.dataset import IGNORED, InvalidData
from bncore.data.importing.arrays import Array
from bncore.data.importing.draft import PARTS, Draft, DraftPart, Layout
from bncore.data.importing.imaging import Channels, as_images, begin_images, scale_of, to_bytes
from bncore.data.importing.npz import Npz, Stored
from bncore.data.importing.single import to_single
from bncore.data.importing.zips import ZipArchive
from bncore.spec.data.shape import Task
from bncore.spec.importing import ImportSpec, SignalKind


def read_npz(archive: ZipArchive, spec: ImportSpec, draft: Draft, scratch: Path) -> None:
    """Fill `draft` with the arrays of an npz. Raises `InvalidData` where they are no data set."""
    draft.format = "npz"
    for role, name in (("inputs", spec.inputs), ("targets", spec.targets)):
        if isinstance(name, list):
            raise InvalidData(f"{role} names several columns, and an npz has one array of {role}; name that")
    told = {"inputs": spec.inputs, "targets": spec.targets, "lengths": spec.lengths}
    npz = Npz(archive, told, scratch)  # type: ignore[arg-type]
    _Arrays(npz, spec, draft).read()


class _Arrays:
    def __init__(self, npz: Npz, spec: ImportSpec, draft: Draft) -> None:
        self._npz = npz
        self._spec = spec
        self._draft = draft
        self._parts = {name: npz.parts[name] for name in PARTS if name in npz.parts}
        if "train" not in self._parts:
            raise InvalidData(f"{npz.name} has no training part, only {', '.join(self._parts)}")

    def read(self) -> None:
        self._say_names()
        inputs, targets = self._parts["train"]["inputs"], self._parts["train"]["targets"]
        for name, arrays in self._parts.items():
            self._refuse_unlike(name, inputs, arrays["inputs"])
            self._refuse_unlike(name, targets, arrays["targets"])
        self._kind: SignalKind = self._find_kind(inputs)
        self._task: Task = self._find_task(inputs, targets)
        outputs = self._check_targets(inputs, targets)
        self._begin(inputs, outputs)
        for name, arrays in self._parts.items():
            self._fill(self._draft.part(name, arrays["inputs"].shape[0]), arrays)

    def _say_names(self) -> None:
        for name, arrays in self._parts.items():
            said = ", ".join(f"{role} {array.key!r}" for role, array in sorted(arrays.items()))
            self._draft.note(f"The {name} part was read from {said}.")

    def _refuse_unlike(self, part: str, first: Stored, array: Stored) -> None:
        if array.shape[1:] != first.shape[1:]:
            raise InvalidData(
                f"{array.what}: examples of the {part} part have the shape {list(array.shape[1:])}, and those of "
                f"{first.key!r} {list(first.shape[1:])}"
            )

    def _find_kind(self, inputs: Stored) -> SignalKind:
        axes = len(inputs.shape)
        if inputs.dtype.kind not in "biuf":
            raise InvalidData(f"{inputs.what} has texts, and networks see numbers")
        fitting: dict[int, tuple[SignalKind, ...]] = {
            2: ("vector", "sequence"),
            3: ("image", "sequence"),
            4: ("image",),
        }
        kinds = fitting.get(axes, ())
        if (self._spec.kind is not None and self._spec.kind not in kinds) or not kinds:
            wanted = f" for {self._spec.kind}s" if self._spec.kind else ""
            raise InvalidData(f"{inputs.what} has {axes} axes{wanted}; vectors have 2, sequences 3, images 3 or 4")
        if self._spec.kind is not None:
            return self._spec.kind
        if axes == 3:
            if "lengths" in self._parts["train"]:
                return "sequence"
            if inputs.dtype == np.uint8:
                return "image"
            steps, features = inputs.shape[1:]
            self._draft.note(
                f"Examples are sequences of {steps} steps of {features} features; say kind: image for pictures."
            )
            return "sequence"
        return kinds[0]

    def _find_task(self, inputs: Stored, targets: Stored) -> Task:
        if self._spec.task is not None:
            return self._spec.task
        steps = inputs.shape[1:2] if self._kind == "sequence" else None
        is_tagging = targets.shape[1:] == steps and targets.dtype.kind in "biuUS"
        return "tagging" if is_tagging else "classification"

    def _check_targets(self, inputs: Stored, targets: Stored) -> int:
        """How many numbers are to be predicted, of a regression."""
        shape = targets.shape[1:]
        if self._task == "tagging":
            if self._kind != "sequence" or shape != inputs.shape[1:2]:
                raise InvalidData(f"{targets.what} has the shape {list(targets.shape)}; tagging wants a class a step")
            return 0
        if self._task == "classification":
            if shape not in ((), (1,)):
                raise InvalidData(
                    f"{targets.what} has the shape {list(targets.shape)}, and a class is one number: store its number, "
                    "as numpy.argmax(y, axis=1) gives it, or say task: regression"
                )
            return 0
        if len(shape) > 1 or targets.dtype.kind not in "biuf":
            raise InvalidData(f"{targets.what} has the shape {list(targets.shape)}; a regression wants numbers a row")
        return shape[0] if shape else 1

    def _begin(self, inputs: Stored, outputs: int) -> None:
        if any("lengths" in arrays for arrays in self._parts.values()):
            if self._kind != "sequence":
                raise InvalidData(f"{self._npz.name} has lengths, and {self._kind}s have none; remove them")
            lacking = [name for name, arrays in self._parts.items() if "lengths" not in arrays]
            if lacking:
                raise InvalidData(f"{self._npz.name} has no lengths of the {lacking[0]} part; every part wants them")
        if self._kind == "image":
            self._turn = Channels(inputs.shape[1:], inputs.what)
            begin_images(self._draft, self._spec, self._turn.shape, outputs)
            return
        shape = inputs.shape[1:] if len(inputs.shape) > 2 or self._kind == "vector" else (*inputs.shape[1:], 1)
        self._draft.begin(Layout(self._kind, shape, self._task, outputs, "lengths" in self._parts["train"]))

    def _fill(self, part: DraftPart, arrays: dict[str, Stored]) -> None:
        for rows in self._inputs(arrays["inputs"]):
            part.inputs.append(rows)
        lengths = self._lengths(part, arrays)
        first = 0
        for rows in self._npz.pieces(arrays["targets"]):
            ends = None if lengths is None else lengths[first : first + len(rows)]
            part.targets.append(self._targets(rows, ends, arrays["targets"]))
            first += len(rows)

    def _inputs(self, array: Stored) -> Iterator[Array]:
        shape = self._draft.laid_out.shape
        if self._kind != "image":
            for rows in self._npz.pieces(array):
                yield self._single(rows, array).reshape(len(rows), *shape)
            return
        scale = 1.0
        if array.dtype != np.uint8:
            # A part with nothing but dark images is no other scale: all parts of one type have the same.
            alike = [one["inputs"] for one in self._parts.values() if one["inputs"].dtype == array.dtype]
            scale = min(scale_of(self._npz.pieces(one), one.what) for one in alike)
        for rows in self._npz.pieces(array):
            pixels = np.ascontiguousarray(self._turn.channels_first(to_bytes(rows, scale, array.what)))
            yield as_images(pixels, self._spec, shape)

    def _single(self, rows: Array, array: Stored) -> Array:
        return to_single(rows, f"Array {array.key!r}", self._draft.note)

    def _lengths(self, part: DraftPart, arrays: dict[str, Stored]) -> Array | None:
        if part.lengths is None:
            return None
        array = arrays["lengths"]
        lengths = self._npz.whole(array)
        if lengths.ndim != 1 or lengths.dtype.kind not in "iu":
            raise InvalidData(
                f"{array.what} has the shape {list(array.shape)} and dtype {array.dtype}; lengths are integers"
            )
        # Out of range they are refused later, together with those of other formats.
        part.lengths.append(np.clip(lengths, -1, 2**31 - 1).astype(np.int32))
        return lengths

    def _targets(self, rows: Array, lengths: Array | None, array: Stored) -> Array:
        if self._task == "regression":
            return self._single(rows, array).reshape(len(rows), -1)
        if array.dtype.kind == "S":
            try:
                rows = np.char.decode(rows, "utf-8")
            except UnicodeDecodeError:
                raise InvalidData(f"{array.what} has texts that are not UTF-8") from None
        if self._task == "classification":
            return self._draft.labels.encode(rows.reshape(len(rows)))
        inside = np.ones(rows.shape, dtype=bool)
        if lengths is not None:
            inside = np.arange(rows.shape[1]) < lengths[:, np.newaxis]
        if rows.dtype.kind in "if":
            inside &= rows != IGNORED
        numbers = np.full(rows.shape, IGNORED, dtype=np.int64)
        numbers[inside] = self._draft.labels.encode(rows[inside])
        return numbers
