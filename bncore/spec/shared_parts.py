"""Many specs that share most of their parts: each part is validated once and written once.

Invariant: what comes out is, to the byte, what each spec by itself would have been.
"""

import json
from typing import Any

from bncore.spec.experiment import ExperimentSpec
from bncore.spec.parse import load_spec
from bncore.spec.strict import SpecModel

_FIELDS = tuple(ExperimentSpec.model_fields)
_SORTED = tuple(sorted(_FIELDS))
_encode = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False).encode


class Reading:
    """Loads documents that are alike."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], Any] = {}

    def load(self, document: dict[str, Any]) -> ExperimentSpec:
        """`load_spec`, where a part that was valid before is not validated again. Raises `SpecError`."""
        texts = {key: json.dumps(part) for key, part in document.items() if isinstance(part, dict | list)}
        # A part that is left out is its default, which depends on the data at most.
        data = texts.get("data", "")
        texts |= {key: f" {data}" for key in _FIELDS if key not in document}
        known = {key: self._known[key, text] for key, text in texts.items() if (key, text) in self._known}
        spec = load_spec({**document, **known})
        for key, text in texts.items():
            if key not in known:
                self._known[key, text] = getattr(spec, key, None)
        return spec


class Writing:
    """Dumps specs that share parts, and are kept while it is used."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[Any, Any, str]] = {}

    def document(self, spec: ExperimentSpec) -> dict[str, Any]:
        """`model_dump(mode="json")`; its parts belong to other documents, too."""
        return {key: self._part(getattr(spec, key))[1] for key in _FIELDS}

    def canonical(self, spec: ExperimentSpec) -> str:
        """`canonical_json`."""
        return "{" + ",".join([f'"{key}":{self._part(getattr(spec, key))[2]}' for key in _SORTED]) + "}"

    def _part(self, value: Any) -> tuple[Any, Any, str]:
        found = self._known.get(id(value))
        if found is None:
            dumped = _dumped(value)
            # It is kept with its id, which is therefore no other's.
            found = self._known[id(value)] = value, dumped, _encode(dumped)
        return found


def _dumped(value: Any) -> Any:
    if isinstance(value, SpecModel):
        return value.model_dump(mode="json")
    return [_dumped(one) for one in value] if isinstance(value, tuple) else value
