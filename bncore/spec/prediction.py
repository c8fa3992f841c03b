"""A prediction: what the network of a checkpoint makes of a few inputs, now.

Invariant: inputs have the shape that the network was trained for, and are finite; what is not so is refused with the
pointer to it.
"""

from collections.abc import Iterator
from typing import Annotated, Any

from pydantic import AfterValidator, Field, ValidationError

from bncore.spec.blueprint import Signal
from bncore.spec.budget import DeviceSpec
from bncore.spec.data import data_shape
from bncore.spec.evaluation import names_a_checkpoint, signal_in_words
from bncore.spec.experiment import ExperimentSpec
from bncore.spec.faults import Fault, SpecError, faults_of
from bncore.spec.strict import SpecModel

MOST_INPUTS = 64
_LARGEST = 3.4e38
"""Single precision ends there."""


class Prediction(SpecModel):
    """Inputs as nested lists of the shape of an example; images with pixels from 0 to 1, nothing standardized."""

    inputs: Annotated[tuple[Any, ...], Field(strict=False, min_length=1, max_length=MOST_INPUTS)] = Field(
        description="Of sequences with lengths, each as long as it is. A body has at most 10,000 values."
    )
    checkpoint: Annotated[str, AfterValidator(names_a_checkpoint)] = Field(
        default="best", description="best (for want of one, the last), last, or an id."
    )
    resources: DeviceSpec = Field(default_factory=DeviceSpec)


def load_prediction(value: Any) -> Prediction:
    """The prediction of a parsed document. Raises `SpecError`."""
    if not isinstance(value, dict):
        raise SpecError([Fault("", "Must be an object", "not_an_object")])
    try:
        return Prediction.model_validate(value)
    except ValidationError as error:
        raise SpecError(faults_of(error, Prediction)) from None


def prediction_faults(prediction: Prediction, experiment: ExperimentSpec) -> list[Fault]:
    """Which inputs the network cannot take."""
    signal = data_shape(experiment.data).signal
    if signal.kind == "tokens":
        return [Fault("/inputs", "Networks of tokens are not predicted with here", "signal_does_not_fit")]
    return [fault for at, given in enumerate(prediction.inputs) for fault in _misfit(given, signal, f"/inputs/{at}")]


def _misfit(given: Any, signal: Signal, pointer: str) -> Iterator[Fault]:
    shape = _shape(given)
    wanted = signal.shape
    if signal.lengths and shape is not None and len(shape) == 2 and 1 <= shape[0] <= wanted[0]:
        wanted = (shape[0], *wanted[1:])
    if shape != wanted:
        found = "no regular list of numbers" if shape is None else f"of {'x'.join(map(str, shape)) or 'no shape'}"
        detail = f"Should be {signal_in_words(signal)} of finite numbers, and is {found}"
        yield Fault(pointer, detail, "signal_does_not_fit")


def _shape(given: Any) -> tuple[int, ...] | None:
    """Of nested lists of finite numbers; None where they are none."""
    if isinstance(given, int | float) and not isinstance(given, bool):
        return () if abs(given) <= _LARGEST else None
    if not isinstance(given, list | tuple) or not given:
        return None
    shapes = {_shape(one) for one in given}
    inner = shapes.pop()
    return None if shapes or inner is None else (len(given), *inner)
