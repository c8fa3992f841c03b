"""A data set in the making: what a reader has made of a file, before anything is checked.

Invariant: everything lies in one folder, and no more than `bounds.FILE_BYTES` of it.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from bncore.data.dataset import InvalidData
from bncore.data.importing import bounds
from bncore.data.importing.arrays import ArrayFile
from bncore.data.importing.labels import Labels
from bncore.spec.data.shape import Task
from bncore.spec.importing import SignalKind

PARTS = ("train", "validation", "test")
PART_NAMES = {"train": "train", "val": "validation", "valid": "validation", "validation": "validation", "test": "test"}
"""What parts are called in files, in lower case."""


@dataclass
class DraftPart:
    """Inputs (n, ...), targets (n, ...) and lengths (n,) or None. Classes have the numbers of `Labels.encode`."""

    inputs: ArrayFile
    targets: ArrayFile
    lengths: ArrayFile | None = None

    @property
    def arrays(self) -> dict[str, ArrayFile]:
        """Those that there are, by the name of their file."""
        every = {"inputs": self.inputs, "targets": self.targets, "lengths": self.lengths}
        return {name: array for name, array in every.items() if array is not None}


@dataclass(frozen=True)
class Layout:
    """What examples look like, in the words of `dataset.json`."""

    kind: SignalKind
    shape: tuple[int, ...]
    task: Task
    outputs: int = 0
    """Of a regression."""
    lengths: bool = False

    @property
    def dtype(self) -> str:
        """Of inputs."""
        return "|u1" if self.kind == "image" else "<f4"


@dataclass
class Draft:
    """What a reader fills: the layout, the parts, the labels, and what should be said of it."""

    folder: Path
    check: Callable[[], None]
    format: str = ""
    layout: Layout | None = None
    labels: Labels = field(default_factory=lambda: Labels("the label"))
    parts: dict[str, DraftPart] = field(default_factory=dict)
    columns: list[str] | None = None
    """Names of the features, where they have some."""
    notes: list[str] = field(default_factory=list)

    @property
    def laid_out(self) -> Layout:
        """The layout, once it is known."""
        assert self.layout is not None
        return self.layout

    def begin(self, layout: Layout) -> None:
        """Say what examples look like. Raises `InvalidData` for what no network here could take."""
        longest = max(layout.shape)
        if min(layout.shape) < 1 or longest > bounds.FEATURES:
            what = {"vector": "columns", "image": "pixels a side", "sequence": "steps or features"}[layout.kind]
            raise InvalidData(
                f"an example has {longest:,} {what}; at least 1 and at most {bounds.FEATURES:,} are taken"
            )
        self.layout = layout

    def part(self, name: str, examples: int) -> DraftPart:
        """Room for the part `name`. Raises `InvalidData` where there would be nothing in it, or too much."""
        layout = self.laid_out
        if examples < 1:
            raise InvalidData(f"the {name} part has no examples")
        if examples > bounds.EXAMPLES:
            raise InvalidData(f"the {name} part has {examples:,} examples; at most {bounds.EXAMPLES:,} are taken")
        arrays = {"inputs": (layout.dtype, (examples, *layout.shape)), "targets": self._targets(examples)}
        if layout.lengths:
            arrays["lengths"] = ("<i4", (examples,))
        self._refuse_too_much(arrays)
        made = {key: ArrayFile(self.folder / f"{name}-{key}.npy", *said, self.check) for key, said in arrays.items()}
        self.parts[name] = DraftPart(made["inputs"], made["targets"], made.get("lengths"))
        return self.parts[name]

    def note(self, text: str) -> None:
        """Something that the report should say, once."""
        if text not in self.notes:
            self.notes.append(text)

    def close(self) -> None:
        """Let go of all files."""
        for part in self.parts.values():
            for array in part.arrays.values():
                array.close()

    def _targets(self, examples: int) -> tuple[str, tuple[int, ...]]:
        layout = self.laid_out
        if layout.task == "regression":
            return "<f4", (examples, layout.outputs)
        return "<i8", (examples, layout.shape[0]) if layout.task == "tagging" else (examples,)

    def _refuse_too_much(self, arrays: dict[str, tuple[str, tuple[int, ...]]]) -> None:
        total = sum(array.size for part in self.parts.values() for array in part.arrays.values())
        for dtype, shape in arrays.values():
            size = int(dtype[-1])
            for side in shape:
                size *= side
            total += size
        if total > bounds.FILE_BYTES:
            raise InvalidData(
                f"the data set would have {total:,} bytes or more as it is stored (images a byte, other numbers four); "
                f"at most {bounds.FILE_BYTES:,} are taken"
            )
