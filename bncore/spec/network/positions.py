"""Where in a network a normalization may stand: lists of positions, and normalizations that a position has to itself.

Invariant: a position is said once, in the order of the signal, and one that a network has not is refused with what it
has instead.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import AfterValidator, BeforeValidator, model_validator
from pydantic_core import PydanticCustomError

from bncore.spec.faults import pointer_part
from bncore.spec.strict import SpecModel
from bncore.spec.wording import nearest

Faults = list[tuple[str, str, str]]

_ELSEWHERE = {
    "ih": "input_to_hidden", "norm_ih": "input_to_hidden", "hh": "hidden_to_hidden", "norm_hh": "hidden_to_hidden",
    "recurrent": "hidden_to_hidden", "norm_c": "cell", "norm_h": "sum", "between": "between_layers",
    "ffn": "mlp", "feed_forward": "mlp", "feedforward": "mlp", "self_attention": "attention", "output": "logits",
    "hidden": "between_layers",
}  # fmt: skip
"""How papers and the layers' own names call what a position calls otherwise."""


def each_once(order: tuple[str, ...]) -> AfterValidator:
    """Goes with a list of positions, if there is one, and brings it in the order of the signal."""

    def sort(positions: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if positions is None:
            return None
        if len(set(positions)) < len(positions):
            raise PydanticCustomError("position_twice", "Should name each position once")
        return tuple(sorted(positions, key=order.index))

    return AfterValidator(sort)


def known(order: tuple[str, ...], missing: Mapping[str, str]) -> BeforeValidator:
    """Goes with one position; `missing` has reason and cure for those that other networks have."""

    def check(position: Any) -> Any:
        if not isinstance(position, str) or position in order:
            return position
        if position in missing:
            raise PydanticCustomError("no_such_position", "{detail}", {"detail": missing[position]})
        raise PydanticCustomError("unknown_position", "{detail}", {"detail": _unknown(position, order)})

    return BeforeValidator(check)


class NormsAt(SpecModel):
    """Normalizations of single positions, each by the name of its position. null: what the network's `norm` says."""

    missing: ClassVar[Mapping[str, str]] = {}
    """Reason and cure for positions that other networks have."""

    @model_validator(mode="before")
    @classmethod
    def _has_the_position(cls, value: Any) -> Any:
        order = tuple(cls.model_fields)
        if not isinstance(value, dict):
            return value
        absent = [name for name in value if name in cls.missing]
        unknown = [name for name in value if name not in cls.missing and name not in order]
        faults = [(f"/{name}", cls.missing[name], "no_such_position") for name in absent]
        faults += [(pointer_part(name), _unknown(name, order), "unknown_position") for name in unknown]
        if faults:
            raise PydanticCustomError("cross_field", "no such position", {"faults": faults})
        return value

    def said(self) -> tuple[str, ...]:
        """The positions that have one."""
        return tuple(name for name in type(self).model_fields if getattr(self, name) is not None)


def said_twice(positions: tuple[str, ...] | None, norms_at: NormsAt | None) -> Faults:
    """Positions in the list that have a normalization of their own."""
    own = norms_at.said() if norms_at is not None else ()
    detail = "norm_positions names it too, which gives it the network's norm; leave one of them out"
    return [(f"/norms_at/{name}", detail, "two_ways_to_say_it") for name in own if name in (positions or ())]


def _unknown(position: object, order: tuple[str, ...]) -> str:
    position = str(position)
    usual = _ELSEWHERE.get(position)
    meant = usual if usual in order else nearest(position, order)
    return f"Unknown position; did you mean {meant}?" if meant else f"Unknown position; known here: {', '.join(order)}"
