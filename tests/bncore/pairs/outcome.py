"""What became of a program: right, refused as expected, or a sentence about what is wrong."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from tests.bncore.pairs.reference import Observed, reference
from tests.bncore.pairs.subjects import Subject
from tests.bncore.pairs.table import refusals

_CHANGES_NUMBERS = ("accumulation", "freeze", "recalibrate", "convert", "amp")
_SORTS = ("y", "x", "grad", "state")
Cache = dict[tuple[str, ...], Observed]


def fault(
    subject: Subject, features: Sequence[str], run: Callable[[], Observed], cache: Cache, world: int = 1
) -> str | None:
    """What is wrong with a run, if anything is."""
    what = f"{subject.name} with {' and '.join(features)}"
    expected = refusals(subject, features)
    try:
        found = run()
    except Exception as error:
        said = str(error)
        if any(one.error in said for one in expected):
            return None
        return f"{what}: {type(error).__name__}: {said[:300]}"
    if expected:
        return f"{what}: not refused, but to be: {expected[0].error}"
    key = tuple(one for one in features if one in _CHANGES_NUMBERS)
    for needed in (key, _in_full(key)):
        if needed not in cache:
            cache[needed] = reference(subject, needed, world)
    difference = _difference(found, cache[_in_full(key)], cache[key] if "amp" in key else None)
    return f"{what}: {difference}" if difference else None


def _in_full(features: tuple[str, ...]) -> tuple[str, ...]:
    """The same in single precision; the tests are in double otherwise."""
    return tuple("single" if one == "amp" else one for one in features)


def _difference(found: Observed, expected: Observed, autocast: Observed | None) -> str:
    """The first thing that differs.

    With bfloat16, a sort of tensors together may be as far from single precision as `autocast` takes plain code, but
    for a factor: where gradients nearly cancel, that is far.
    """
    if found.keys() != expected.keys():
        return f"observed {sorted(found.keys() ^ expected.keys())} on one side only"
    together: dict[Any, list[tuple[Tensor, Tensor, Tensor]]] = defaultdict(list)
    for name, value in expected.items():
        mine = found[name]
        rounded = value if autocast is None else autocast[name]
        if mine.shape != value.shape or mine.dtype not in (value.dtype, rounded.dtype):
            return f"{name} is {mine.dtype} {tuple(mine.shape)}, not {value.dtype} {tuple(value.shape)}"
        if not value.is_floating_point():
            if not torch.equal(mine, value):
                return f"{name} is {mine.tolist()}, not {value.tolist()}"
            continue
        step, *rest = name.split(".")
        sort = name if autocast is None else (step, next(one for one in _SORTS if one in rest))
        together[sort].append(tuple(one.double().flatten() for one in (mine, value, rounded)))
    for name, tensors in together.items():
        mine, value, rounded = (torch.cat(several) for several in zip(*tensors, strict=True))
        gap, size, noise = (mine - value).norm(), value.norm(), (rounded - value).norm()
        if not gap <= (1e-8 * size + 1e-10 if autocast is None else 4 * noise + 1e-2 * size):
            return f"{name} is off by {gap:.2g}, where it is {size:.2g} and autocast is off by {noise:.2g}"
    return ""
