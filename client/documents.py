"""Spec files: YAML or JSON to plain data, so that a number stays a number and nothing is guessed.

YAML is read by the core schema of YAML 1.2, not by PyYAML's 1.1: there `1e-3` is text, `no` is false, `010` is eight,
`1:30` is ninety and `2026-01-01` a date. A repeated key is an error in both formats.
"""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from bncore.spec import Fault, SpecError, parse_json
from bncore.spec.faults import pointer_part

MAX_DEPTH = 64
MAX_NODES = 100_000
"""Aliases of aliases can stand for more values than a machine has memory."""


@dataclass(frozen=True)
class Document:
    """The data of a file, for YAML the line on which each JSON pointer stands, and what was set on the command line."""

    value: Any
    lines: dict[str, int] = field(default_factory=dict)
    assigned: tuple[str, ...] = ()
    """JSON pointers; what lies at and under them is not what the file says there."""

    def place_of(self, pointer: str) -> str | None:
        """Where a person has to look for what is wrong at a pointer."""
        missing_beside_a_kind = pointer not in self.lines and self.kind_beside(pointer) is not None
        if missing_beside_a_kind or any(f"{pointer}/".startswith(f"{each}/") for each in self.assigned):
            return "--set"
        line = self.line_of(pointer)
        return f"line {line}" if line else None

    def kind_beside(self, pointer: str) -> str | None:
        """The dotted path of the part that a pointer's field belongs to, if `--set` named another kind for that."""
        part = pointer.rpartition("/")[0]
        return part.strip("/").replace("/", ".") if part and f"{part}/kind" in self.assigned else None

    def line_of(self, pointer: str) -> int | None:
        """The line of a pointer, or of the nearest part around it that was written down."""
        while pointer and pointer not in self.lines:
            pointer = pointer.rpartition("/")[0]
        return self.lines.get(pointer)


def read_document(text: str, *, json: bool) -> Document:
    """The document in `text`. Raises `SpecError` with pointers."""
    return Document(parse_json(text)) if json else _Reader().read(text)


def looks_like_json(path: Path, text: str) -> bool:
    """By its name; a file (or standard input) without a telling name, by its first character."""
    if path.suffix.lower() in (".json", ".yaml", ".yml"):
        return path.suffix.lower() == ".json"
    return text.lstrip().startswith("{")


def assign(value: Any, assignment: str) -> Any:
    """`value` with one `path=value` of the command line set: a dotted path, and a value in YAML.

    Raises `ValueError` that says what is wrong with the assignment.
    """
    path, equals, text = assignment.partition("=")
    keys = path.split(".")
    if not equals or "" in keys:
        raise ValueError(
            f"{assignment!r} is not of the form path=value, like optimizer.lr=0.1; a name with a dot belongs into "
            'the value, like columns={"No.": ignore}'
        )
    try:
        new = read_document(text, json=False).value
    except SpecError as error:
        raise ValueError(f"the value of {path} is not YAML: {error.faults[0].detail}") from None
    return _assigned(value, keys, new, path)


def pointer_of(assignment: str) -> str:
    """The JSON pointer to the field that a `path=value` sets."""
    keys = assignment.partition("=")[0].split(".")
    return "".join(pointer_part(key) for key in keys)


def patch_between(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    """The JSON Merge Patch (RFC 7396) from one to the other. A null in `after` takes the field away: so are patches."""
    patch: dict[str, Any] = {key: None for key in before if key not in after}
    for key, value in after.items():
        old = before.get(key)
        if isinstance(value, dict) and isinstance(old, dict):
            if inner := patch_between(old, value):
                patch[key] = inner
        elif key not in before or value != old:
            patch[key] = value
    return patch


def _assigned(value: Any, keys: list[str], new: Any, path: str) -> Any:
    if not keys:
        return new
    key, rest = keys[0], keys[1:]
    if isinstance(value, list):
        if not key.isdecimal() or int(key) >= len(value):
            raise ValueError(f"{path}: {key!r} is not an index into a list of {len(value)}")
        return [_assigned(item, rest, new, path) if at == int(key) else item for at, item in enumerate(value)]
    if value is not None and not isinstance(value, dict):
        raise ValueError(f"{path}: there is no {key!r} inside a single value")
    present = value or {}
    return {**present, key: _assigned(present.get(key), rest, new, path)}


class _CoreLoader(yaml.SafeLoader):
    """Resolves plain scalars by YAML 1.2's core schema and nothing else."""


_CoreLoader.yaml_implicit_resolvers = {}
_NULL, _BOOL, _INT, _FLOAT = (f"tag:yaml.org,2002:{name}" for name in ("null", "bool", "int", "float"))
_STR, _SEQ, _MAP = (f"tag:yaml.org,2002:{name}" for name in ("str", "seq", "map"))
_NUMBER_START = list("-+.0123456789")
for _tag, _pattern, _first in (
    (_NULL, r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    (_BOOL, r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    (_INT, r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", _NUMBER_START),
    (_FLOAT, r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?", _NUMBER_START),
    (_FLOAT, r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)", list("-+.")),
):
    _CoreLoader.add_implicit_resolver(_tag, re.compile(rf"^(?:{_pattern})$"), _first)


class _Reader:
    """Walks the nodes of one document: only there are repeated keys and line numbers still to be seen."""

    def __init__(self) -> None:
        self._lines: dict[str, int] = {}
        self._faults: list[Fault] = []
        self._nodes = 0

    def read(self, text: str) -> Document:
        try:
            root = yaml.compose(text, Loader=_CoreLoader)
        except yaml.MarkedYAMLError as error:
            raise _unreadable(_syntax(error), "not_yaml") from None
        except yaml.YAMLError:
            raise _unreadable("Must be YAML; it has a character that YAML does not allow", "not_yaml") from None
        except RecursionError:
            raise _unreadable(f"Must not be nested more than {MAX_DEPTH} levels deep", "too_deep") from None
        value = None if root is None else self._value(root, "", 0)
        if self._faults:
            raise SpecError(self._faults)
        return Document(value, self._lines)

    def _value(self, node: yaml.Node, pointer: str, depth: int) -> Any:
        self._nodes += 1
        if depth > MAX_DEPTH or self._nodes > MAX_NODES:
            raise _unreadable(f"Must have at most {MAX_DEPTH} levels and {MAX_NODES:,} values", "too_deep")
        self._lines.setdefault(pointer, node.start_mark.line + 1)
        if isinstance(node, yaml.MappingNode) and node.tag == _MAP:
            return dict(self._items(node, pointer, depth))
        if isinstance(node, yaml.SequenceNode) and node.tag == _SEQ:
            return [self._value(item, f"{pointer}/{at}", depth + 1) for at, item in enumerate(node.value)]
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, pointer)
        return self._fault(node, pointer, f"The tag {node.tag} is not allowed", "yaml_tag")

    def _items(self, node: yaml.MappingNode, pointer: str, depth: int) -> Iterator[tuple[str, Any]]:
        first_lines: dict[str, int] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                self._fault(key_node, pointer, "A key must be text", "yaml_key")
                continue
            # A key is text however it looks, as in JSON: tags may be called 1 or true.
            key: str = key_node.value
            inner = pointer + pointer_part(key)
            line = key_node.start_mark.line + 1
            if key == "<<" and key_node.style is None:
                self._fault(
                    key_node, inner, "Merge keys are no part of YAML 1.2; write out what is merged", "yaml_merge"
                )
                continue
            if key in first_lines:
                detail = f"Is given twice, in lines {first_lines[key]} and {line}; which one counts is unclear"
                self._faults.append(Fault(inner, detail, "repeated_key"))
                continue
            first_lines[key] = line
            self._lines[inner] = line
            yield key, self._value(value_node, inner, depth + 1)

    def _scalar(self, node: yaml.ScalarNode, pointer: str) -> Any:
        text: str = node.value
        if node.tag in (_STR, "!"):
            return text
        try:
            return _plain(node.tag, text)
        except (ValueError, KeyError):
            return self._fault(node, pointer, f"The tag {node.tag} is not allowed here", "yaml_tag")

    def _fault(self, node: yaml.Node, pointer: str, detail: str, code: str) -> None:
        self._faults.append(Fault(pointer, f"{detail} (line {node.start_mark.line + 1})", code))


def _plain(tag: str, text: str) -> Any:
    if tag == _NULL:
        return None
    if tag == _BOOL:
        return {"true": True, "false": False}[text.lower()]
    if tag == _INT:
        base = {"0o": 8, "0x": 16}.get(text[:2].lower(), 10)
        # Python refuses to read thousands of digits; as an infinity the number is refused where it stands.
        return int(text, base) if len(text) <= 400 else math.inf
    if tag == _FLOAT:
        # ".inf" and ".nan" are YAML's spelling; a leading point of a number does not mind either.
        return float(re.sub(r"\.(?=[a-zA-Z])", "", text))
    raise KeyError(tag)


def _syntax(error: yaml.MarkedYAMLError) -> str:
    mark = error.problem_mark or error.context_mark
    where = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
    what = f": {error.problem}" if error.problem and error.problem.isprintable() else ""
    cure = "; use spaces, not tabs" if "'\\t'" in what else ""
    return f"Must be YAML; reading failed{where}{what}{cure}"


def _unreadable(detail: str, code: str) -> SpecError:
    return SpecError([Fault("", detail, code)])
