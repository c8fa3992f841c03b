"""Classes by their names, numbered in the order of the names once all of them are known."""

import re
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bncore.data.dataset import InvalidData
from bncore.data.importing import bounds

_INTEGER = re.compile(r"[+-]?[0-9]+")


class Labels:
    """Gives each name a number in the order of appearance, and says at the end which number it has in the sorted order.

    The result is a function of the names alone, not of the order in which they came.
    """

    def __init__(self, where: str) -> None:
        self._where = where
        self._numbers: dict[str, int] = {}

    def encode(self, values: NDArray[Any] | Sequence[str]) -> NDArray[np.int64]:
        """Numbers of the same shape for labels: integers, truth values, whole floats or texts.

        Raises `InvalidData` for what names no class: a fraction, nothing at all, or more classes than can be.
        """
        array = np.asarray(values)
        kinds, places = np.unique(array.reshape(-1), return_inverse=True)
        numbers = np.array([self.number(name) for name in self._names(kinds)], dtype=np.int64)
        return numbers[places.reshape(array.shape)]

    def number(self, name: str) -> int:
        """The number of one name, a new one if it has none."""
        number = self._numbers.get(name)
        if number is not None:
            return number
        if not is_name(name):
            what = f"a class whose name is longer than {bounds.LABEL_CHARS} characters, or cannot be shown"
            raise InvalidData(f"{self._where} has {what if name else 'an empty label'}: {name[:40]!a}")
        if len(self._numbers) >= bounds.FEATURES:
            raise InvalidData(
                f"{self._where} has more than {bounds.FEATURES:,} classes: is it the label? "
                "Name another with targets, or say task: regression if it is a number to be predicted"
            )
        self._numbers[name] = len(self._numbers)
        return self._numbers[name]

    @property
    def names(self) -> list[str]:
        """All of them in their final order."""
        return sorted_names(self._numbers)

    def ranks(self) -> NDArray[np.int64]:
        """Of each number that was given, the final one (K,)."""
        final = {name: place for place, name in enumerate(self.names)}
        return np.array([final[name] for name in self._numbers], dtype=np.int64)

    def whole(self, number: float) -> str:
        """The name of the class with that number. Raises `InvalidData` for a fraction."""
        if np.isnan(number):
            raise InvalidData(f"{self._where} has missing labels: remove these examples")
        if not number.is_integer():
            raise InvalidData(
                f"{self._where} has {number:g}, and a class is a whole number or a word; "
                "say task: regression if it is a number to be predicted"
            )
        return str(int(number))

    def _names(self, kinds: NDArray[Any]) -> list[str]:
        if kinds.dtype.kind == "b":
            return [str(bool(kind)).lower() for kind in kinds]
        if kinds.dtype.kind in "iu":
            return [str(int(kind)) for kind in kinds]
        if kinds.dtype.kind == "f":
            return [self.whole(float(kind)) for kind in kinds]
        return [str(kind).strip() for kind in kinds]


def is_name(text: str) -> bool:
    """Whether a class or a column can be called so: not too long, and harmless to a terminal and a database."""
    return 0 < len(text) <= bounds.LABEL_CHARS and text.isprintable()


def sorted_names(names: Iterable[str]) -> list[str]:
    """In the order of integers where all are such, else by their characters."""
    every = list(names)
    if all(_INTEGER.fullmatch(name) for name in every):
        return sorted(every, key=lambda name: (int(name), name))
    return sorted(every)
