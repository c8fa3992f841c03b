"""What a PNG costs before it is begun: a picture is refused for what it is made of, never for how busy a machine is.

Invariant: the same picture at the same scale is always estimated alike, and no cheaper than it was measured to be.
"""

import math
import re
from dataclasses import dataclass

SECONDS = 8.0
"""CPU seconds that a PNG may be estimated at where nobody says."""
LEAST_SCALE = 0.5
_SEGMENT = 15e-6
"""CPU seconds a piece of a line, at scale 1: 6 of a plain line, 14 of a dashed one; it grows with the scale."""
_MEGAPIXEL = 0.05
"""For a million pixels: filled, and compressed."""
_CLIPPED = 0.04
"""For each clipped group and a million pixels, since a mask is as large as the picture."""
_SIZE = re.compile(r'viewBox="0 0 ([0-9.]+) ([0-9.]+)"')
_PATH = re.compile(r' d="([^"]*)"')
_PIECE = re.compile("[LMCQAHVZ]", re.IGNORECASE)


@dataclass(frozen=True)
class Cost:
    """Of one picture in CPU seconds, in powers of its scale."""

    linear: float
    quadratic: float

    def at(self, scale: float) -> float:
        """At so many pixels a pixel."""
        return self.linear * scale + self.quadratic * scale**2

    def greatest_scale(self, seconds: float) -> float | None:
        """The greatest that costs no more, to a hundredth and rounded down; None where the least costs more."""
        # quadratic s^2 + linear s = seconds, in the form that works for a quadratic of 0.
        root = math.sqrt(self.linear**2 + 4 * self.quadratic * seconds)
        found = math.floor(100 * (2 * seconds / (self.linear + root) if root else math.inf) * (1 - 1e-9)) / 100
        return found if found >= LEAST_SCALE else None


def cost_of(svg: str) -> Cost:
    """What drawing an SVG as pixels costs, by what it consists of."""
    size = _SIZE.search(svg)
    assert size is not None, "an SVG of Vega has a viewBox"
    megapixels = float(size[1]) * float(size[2]) / 1e6
    pieces = sum(len(_PIECE.findall(path)) for path in _PATH.findall(svg))
    return Cost(_SEGMENT * pieces, megapixels * (_MEGAPIXEL + _CLIPPED * svg.count("clip-path=")))
