"""What a diagnostic found at one step: arrays with their axes and units, and scalars.

Torch-free: the trainer writes it, figures and the API read it. A recording is one `.safetensors` file, whose header
holds all but the arrays; what was written is what is read, to the bit.
"""

import importlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

FILE_KIND = "diagnostic"
"""What a stored file of a recording is called in `files.kind`."""
_VERSION = 1
_HEADER = "recording"


class RecordingDamaged(ValueError):
    """The bytes are no recording."""


@dataclass(frozen=True)
class Site:
    """A place in a network at which was measured; sites stand in the order in which the network passes them."""

    name: str
    """Of the module, as in `named_modules()`."""
    depth: int
    """How many layers with weights lie before it or are it, on the way from the input; 0 is the input."""
    role: str
    """What it is: `weights`, `before_norm`, `after_norm`, `activation`, `norm`, `output`, ..."""


@dataclass(frozen=True)
class Recording:
    """Of one diagnostic (`kind`) at one step."""

    kind: str
    step: int
    """Optimizer steps before it; 0 is at initialization."""
    arrays: Mapping[str, np.ndarray] = field(default_factory=dict)
    axes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Of every array, what each of its axes is: `site`, `unit`, `image`, `class`, `distance`, `percentile`, ..."""
    units: Mapping[str, str] = field(default_factory=dict)
    """Of every array and scalar that has one; "1" for a bare number."""
    sites: tuple[Site, ...] = ()
    """What the axis `site` runs over."""
    scalars: Mapping[str, float] = field(default_factory=dict)
    """Also series of the experiment: `diagnostics/<kind>/<name>`."""
    notes: tuple[str, ...] = ()
    """What whoever reads it must know, in sentences: what was not measured, or on a part only, and why."""

    def __post_init__(self) -> None:
        for name, array in self.arrays.items():
            axes = self.axes.get(name, ())
            if len(axes) != array.ndim:
                raise ValueError(f"{name} has {array.ndim} axes, and names for {len(axes)}")
            if "site" in axes and array.shape[axes.index("site")] != len(self.sites):
                raise ValueError(f"{name} has {array.shape[axes.index('site')]} sites of {len(self.sites)}")

    @property
    def file_name(self) -> str:
        """What its file is called."""
        return file_name(self.kind, self.step)

    def figure(self) -> dict[str, Any]:
        """A Vega-Lite document of it, with its data. Raises ValueError for a kind of which there is none."""
        # Whoever reads recordings need not draw.
        document: dict[str, Any] = importlib.import_module("bncore.figures").of(self)
        return document

    def to_bytes(self) -> bytes:
        """The file's content."""
        # Whoever only lists recordings, such as a worker, need not have the format.
        from safetensors.numpy import save

        header: dict[str, Any] = {
            "version": _VERSION,
            "kind": self.kind,
            "step": self.step,
            "axes": {name: list(axes) for name, axes in self.axes.items()},
            "units": dict(self.units),
            "sites": [vars(site) for site in self.sites],
            # As text: JSON has no NaN.
            "scalars": {name: repr(float(value)) for name, value in self.scalars.items()},
        }
        if self.notes:
            header["notes"] = list(self.notes)
        arrays = {name: np.asarray(array, order="C") for name, array in self.arrays.items()}
        return save(arrays, {_HEADER: json.dumps(header, sort_keys=True, separators=(",", ":"))})


def from_bytes(content: bytes) -> Recording:
    """What `to_bytes` wrote. Raises `RecordingDamaged`."""
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        arrays = load(content)
        size = int.from_bytes(content[:8], "little")
        header = json.loads(json.loads(content[8 : 8 + size])["__metadata__"][_HEADER])
        return Recording(
            kind=header["kind"],
            step=header["step"],
            arrays=arrays,
            axes={name: tuple(axes) for name, axes in header["axes"].items()},
            units=header["units"],
            sites=tuple(Site(**site) for site in header["sites"]),
            scalars={name: float(text) for name, text in header["scalars"].items()},
            notes=tuple(header.get("notes", ())),
        )
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise RecordingDamaged(f"not a recording: {error}") from error


def file_name(kind: str, step: int) -> str:
    """What the file of a recording is called: one a diagnostic and step."""
    return f"{kind}-{step:09d}.safetensors"


def kind_in(name: str) -> str:
    """The diagnostic that a file of such a name is of."""
    return name.rpartition("-")[0]
