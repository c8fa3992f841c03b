"""What was written of a recording is what is read."""

import math
from dataclasses import replace

import numpy as np
import pytest

from bncore.recording import Recording, RecordingDamaged, Site, from_bytes


def test_it_is_read_as_it_was_written():
    written = Recording(
        kind="activation_moments",
        step=30,
        arrays={
            "mean": np.array([0.1, np.nan]),
            "heat": np.arange(6, dtype=np.float32).reshape(2, 3).T,
            "one": np.array(0.1),
        },
        axes={"mean": ("site",), "heat": ("image", "class"), "one": ()},
        units={"mean": "1"},
        sites=(Site("hidden.0", 1, "weights"), Site("hidden.1", 1, "after_norm")),
        scalars={"growth": 0.1 + 0.2, "none": math.nan, "far": -math.inf},
        notes=("kurtosis of half of the images",),
    )
    read = from_bytes(written.to_bytes())
    assert (read.kind, read.step, read.axes, read.units, read.sites) == (
        written.kind,
        written.step,
        written.axes,
        written.units,
        written.sites,
    )
    for name, array in written.arrays.items():
        np.testing.assert_array_equal(read.arrays[name], array)
        assert read.arrays[name].dtype == array.dtype
    assert read.scalars["growth"] == 0.1 + 0.2
    assert math.isnan(read.scalars["none"])
    assert read.scalars["far"] == -math.inf
    assert read.notes == ("kurtosis of half of the images",)
    assert read.to_bytes() == written.to_bytes()
    # As it was before there were any.
    bare = replace(written, notes=())
    assert b"notes" not in bare.to_bytes()
    assert from_bytes(bare.to_bytes()).notes == ()


def test_axes_are_those_of_the_arrays():
    with pytest.raises(ValueError, match="heat has 2 axes, and names for 1"):
        Recording("gradient_heatmap", 0, {"heat": np.zeros((2, 3))}, {"heat": ("image",)})
    with pytest.raises(ValueError, match="mean has 2 sites of 0"):
        Recording("activation_moments", 0, {"mean": np.zeros(2)}, {"mean": ("site",)})


@pytest.mark.parametrize("content", [b"", b"\x00" * 20, Recording("a", 0).to_bytes()[:-30]])
def test_other_bytes_are_refused(content: bytes):
    with pytest.raises(RecordingDamaged):
        from_bytes(content)
