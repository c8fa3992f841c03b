"""What is made of stored numbers in a process of its own, where SciPy may be: a JSON object in, JSON out."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from bncore.studies.intervals import t_interval
from bncore.studies.page import page
from bncore.studies.reporting import document


def intervals(asked: Mapping[str, Any], _blobs: Sequence[bytes]) -> bytes:
    """Of each of `samples`, lists of numbers, the t interval of its mean with `confidence` (0.95), as [low, high];
    null of fewer than two numbers."""
    level = 1.0 - asked["confidence"]
    found = [t_interval(sample, level) if len(sample) > 1 else None for sample in asked["samples"]]
    return json.dumps([None if one is None else [one.low, one.high] for one in found]).encode()


def report_json(asked: Mapping[str, Any], _blobs: Sequence[bytes]) -> bytes:
    """The report of a study's stored documents, as JSON."""
    return json.dumps(document(asked), allow_nan=False).encode()


def report_page(asked: Mapping[str, Any], _blobs: Sequence[bytes]) -> bytes:
    """The same as a page by itself."""
    # What draws takes 100 MB, which whoever asks for an interval does not wait for.
    from bncore.figures.drawing import drawn

    return page(document(asked), lambda figure: drawn(figure, "svg").decode()).encode()
