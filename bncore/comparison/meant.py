"""What tells specs apart once what no layer of a network uses is left out: one source for tables, figures and reports.

A list of layers that all have norms of their own makes nothing of the network's `norm`, whatever that says.
Invariant: two specs whose networks differ in a layer are told apart, and each norm is shown where it really stands.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from pydantic import TypeAdapter

from bncore.comparison.differing import as_text, differences, where
from bncore.spec.data import DataSpec
from bncore.spec.effective import norm_pointers, unused_fields
from bncore.spec.network import NetworkSpec

_NETWORK: TypeAdapter[NetworkSpec] = TypeAdapter(NetworkSpec)
_DATA: TypeAdapter[DataSpec] = TypeAdapter(DataSpec)
_USUAL_NORM = "network.norm.kind"


@dataclass(frozen=True)
class Told:
    """What tells some specs apart."""

    paths: tuple[str, ...]
    """In the order of the fields."""
    wheres: tuple[dict[str, Any], ...]
    """What each spec says there, without what it has not or no layer of it uses."""


def told_apart(specs: Sequence[Mapping[str, Any]]) -> Told:
    """Where the specs differ in what their networks are made of, and in all else.

    Where norms stand at different places of the networks, the kinds of all of them are among the paths.
    """
    if len({as_text(spec.get("network")) for spec in specs}) < 2:
        return _told(specs, differences(specs))
    used = [_used(spec) for spec in specs]
    paths = differences(list(_filled(used)))
    standing = {each.norms for each in used}
    if len(standing) > 1:
        kinds = dict.fromkeys(kind for each in used for kind in each.norms)
        paths = _with(paths, [kind for kind in kinds if kind not in paths])
    return _told([each.spec for each in used], paths)


def norm_kinds(spec: Mapping[str, Any]) -> list[str]:
    """The kinds of the normalizations that the network of a spec has, each once, in the order of the signal."""
    used = _used(spec)
    return [str(kind) for kind in dict.fromkeys(where(used.spec, used.norms).values())]


@dataclass(frozen=True)
class _Used:
    spec: Mapping[str, Any]
    """Without the fields of its network that no layer of it uses."""
    unused: tuple[str, ...]
    norms: tuple[str, ...]
    """The paths of the kinds of its normalizations."""


def _used(spec: Mapping[str, Any]) -> _Used:
    network = spec.get("network")
    if not isinstance(network, Mapping):
        return _Used(spec, (), ())
    unused, norms = _found(json.dumps([network, spec.get("data")], sort_keys=True))
    left = {name: value for name, value in network.items() if name not in unused}
    has_usual = not norms and isinstance(left.get("norm"), Mapping)
    known = tuple(name for name in network if name in unused)
    return _Used({**spec, "network": left}, known, (_USUAL_NORM,) if has_usual else norms)


@lru_cache(maxsize=2048)
def _found(text: str) -> tuple[frozenset[str], tuple[str, ...]]:
    """Of a network and the data that it is for, what is unused, and where its norms stand."""
    document, data = json.loads(text)
    try:
        network, sizes = _NETWORK.validate_python(document), _DATA.validate_python(data or {}).shape()
        shown = (network, sizes.signal, sizes.outputs)
        pointers = norm_pointers(*shown)
        kinds = (f"network{pointer.replace('/', '.')}.kind" for pointer in pointers)
        return unused_fields(*shown), tuple(kinds)
    except ValueError:
        # Of a spec that is none any more nothing is known.
        return frozenset(), ()


def _filled(used: Sequence[_Used]) -> Iterator[dict[str, Any]]:
    """What one network leaves unused is as in the first that uses it, and so no difference by itself."""
    said: dict[str, Any] = {}
    for each in used:
        said = {**_network(each.spec), **said}
    for each in used:
        named = (*_network(each.spec), *each.unused)
        network = {name: _network(each.spec).get(name, said.get(name)) for name in named if name in said}
        yield {**each.spec, "network": network} if "network" in each.spec else dict(each.spec)


def _network(spec: Mapping[str, Any]) -> Mapping[str, Any]:
    network = spec.get("network")
    return network if isinstance(network, Mapping) else {}


def _with(paths: Sequence[str], more: Sequence[str]) -> list[str]:
    """The paths with others of the network behind those that are there."""
    network = [at for at, path in enumerate(paths) if path.partition(".")[0] == "network"]
    end = network[-1] + 1 if network else len(paths)
    return [*paths[:end], *more, *paths[end:]]


def _told(specs: Sequence[Mapping[str, Any]], paths: Sequence[str]) -> Told:
    return Told(tuple(paths), tuple(where(spec, paths) for spec in specs))
