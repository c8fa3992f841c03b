"""Images as another camera would have taken them: what a network that was trained on clean ones is measured on."""

from typing import Literal

from pydantic import Field

from bncore.spec.strict import SpecModel

ShiftKind = Literal["contrast", "brightness", "noise", "blur", "inversion", "rotation", "resize"]


class ShiftSpec(SpecModel):
    """A shift of images x, with pixels from 0 to 1, after `resize` and before anything is standardized.

    It depends on `seed`, severity and the number of an example in the part that it is stored in, and on nothing else.
    With severity 1 to 5: `contrast`: m + c (x - m), m the mean of the image's channel, c 0.75, 0.5, 0.4, 0.3, 0.15.
    `brightness`: x + b, at most 1, b 0.1 to 0.5. `noise`: x + e, cut to 0 to 1, e normal with standard deviation 0.04,
    0.08, 0.12, 0.18, 0.26. `blur`: Gaussian, of 0.4, 0.6, 0.8, 1.0, 1.5 pixels, edges repeated. `inversion`: pixels of
    at least 0.8, 0.6, 0.4, 0.2, 0 become 1 - x. `rotation`: by 10, 20, 30, 45, 60 degrees about the centre, to a side
    drawn for each example; bilinear, 0 from outside. `resize`: to 0.75, 0.6, 0.5, 0.4, 0.3 of the side by averages of
    areas, and back as squares. After arXiv 1903.12261.
    """

    kind: ShiftKind
    severity: int = Field(default=3, ge=1, le=5)
    seed: int = Field(default=0, ge=0, le=2**63 - 1, description="Draws noise, and the side of a rotation.")
    parts: Literal["test", "all"] = Field(
        default="test", description="The test part only: what is held out for validation is as in training. Or all."
    )
