"""What would be right, for each way in which a value can be wrong.

Invariant: a reader who knows JSON and not Python understands it, and no text repeats a value that was sent.
"""

import difflib
import re
from collections.abc import Iterable, Mapping
from typing import Any

_LONGEST_WORD = 64
"""Characters. A name is a word; the search for the nearest one reads all that it is given."""
KINDS_ELSEWHERE = {
    "bn": "batch_norm", "ln": "layer_norm", "gn": "group_norm", "in": "instance_norm", "brn": "batch_renorm",
    "gbn": "ghost_batch_norm", "wn": "weight_norm", "sn": "spectral_norm", "ws": "weight_standardization",
    "rms": "rms_norm", "frn": "filter_response_norm", "grn": "global_response_norm", "dyt": "dynamic_tanh",
    "identity": "none", "off": "none", "false": "none", "null": "none", "syncbn": "sync_batch_norm",
    "convnet": "cnn", "transformer": "transformer_encoder", "sgdm": "sgd", "momentum": "sgd", "mnist": "mnist5k",
    "sgdr": "warm_restarts", "onecyclelr": "one_cycle", "steplr": "step", "ce": "cross_entropy",
    "mse": "mean_squared_error", "he": "kaiming", "glorot": "xavier", "gaussian": "normal",
}  # fmt: skip
"""How papers and other libraries call what a spec calls otherwise, in small letters and without underscores."""
FIELDS_ELSEWHERE = {
    "learningrate": "lr", "wd": "weight_decay", "bs": "batch_size", "nepochs": "epochs", "numepochs": "epochs",
    "maxsteps": "steps", "numsteps": "steps", "iterations": "steps", "randomseed": "seed", "scheduler": "schedule",
    "lrschedule": "schedule", "dataset": "data", "model": "network", "architecture": "network", "optim": "optimizer",
    "normalization": "norm", "normlayer": "norm", "criterion": "loss", "gradclip": "clip_grad_norm",
    "nonlinearity": "activation", "epsilon": "eps", "features": "width", "outfeatures": "width",
    "outchannels": "width", "units": "width", "filters": "width",
}  # fmt: skip

PARTS_ELSEWHERE = {"val": "validation", "valid": "validation", "dev": "validation", "training": "train", "eval": "test"}
"""How other tools call the part of the data that a series is of."""

_TYPES = {
    "tuple_type": "Should be a list",
    "list_type": "Should be a list",
    "int_type": "Should be a whole number: no quotes, no point, no exponent",
    "float_type": "Should be a number, without quotes",
    "string_type": "Should be text; what looks like a number stands in quotes",
    "bool_type": "Should be true or false, without quotes",
}
_BOUNDS = {"greater_than": "gt", "greater_than_equal": "ge", "less_than": "lt", "less_than_equal": "le"}


def worded(details: Mapping[str, Any]) -> str:
    """The sentence for one of pydantic's errors, whose own speak of tuples and of what comes "after validation"."""
    kind, context = str(details["type"]), details.get("ctx", {})
    if kind == "too_short":
        return f"Should have at least {_counted(context['min_length'], context)}"
    if kind == "too_long":
        return f"Should have at most {_counted(context['max_length'], context)}"
    if kind == "float_type" and _has_decimal_comma(details.get("input")):
        return "Should be a number; the decimal mark is a point, as in 1.5"
    if kind in _TYPES:
        return _TYPES[kind]
    text = str(details["msg"]).removeprefix("Input ").replace("Field required", "is required")
    text = text.replace("String should match pattern", "Should match the pattern")
    bound = context.get(_BOUNDS.get(kind, ""))
    if bound is not None and 0 < abs(bound) < 1e-4:
        # Thirty digits are counted by nobody.
        text = f"{text.rpartition(' ')[0]} {bound:g}"
    return text[:1].upper() + text[1:]


def _has_decimal_comma(value: Any) -> bool:
    return isinstance(value, str) and bool(re.fullmatch(r"\s*[-+]?[0-9]*,[0-9]+\s*", value[:_LONGEST_WORD]))


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that was probably meant."""
    return next(iter(difflib.get_close_matches(name[:_LONGEST_WORD], sorted(known), n=1)), None)


def meant_or_all(name: str, known: Iterable[str]) -> str:
    """Which known name was probably meant, else all of them; as the end of a sentence."""
    there = list(known)
    close = nearest(name.lower(), there)
    return f"did you mean {close}?" if close else f"there are {', '.join(there) or 'none'}"


def series_here(series: str) -> str:
    """A series whose part is called as in other tools, by the name that it has here; any other as it is."""
    part, slash, name = series.partition("/")
    return f"{PARTS_ELSEWHERE.get(part.lower(), part)}{slash}{name}"


def nearest_kind(name: str, known: Iterable[str]) -> str | None:
    """The same for a kind, which other tools may call by another name."""
    there = [*known]
    usual = KINDS_ELSEWHERE.get(_bare(name[:_LONGEST_WORD]))
    if usual in there:
        return usual
    # torch writes AdamW and LSTM: letters in another case are no other letters.
    return nearest(name.lower(), there)


def name_here(name: str) -> str | None:
    """What a field of other tools is called in a spec."""
    return FIELDS_ELSEWHERE.get(_bare(name[:_LONGEST_WORD]))


def _bare(name: str) -> str:
    return name.lower().replace("_", "").replace("-", "")


def _counted(number: int, context: Mapping[str, Any]) -> str:
    # Texts are all that is checked after a function of ours, and "Value" to pydantic then.
    noun = "character" if context["field_type"] == "Value" else "item"
    return f"{number} {noun}{'' if number == 1 else 's'}"
