"""`bnlab kinds`: what a spec may choose from."""

from enum import StrEnum
from typing import Annotated, Any

import typer

from bncore.spec import CATALOG
from bncore.spec import kinds as known_kinds
from client.commands.connection import AsJson, Url, connect
from client.commands.outcome import reported
from client.commands.output import emit, show, table

Noun = StrEnum("Noun", {noun: noun for noun in CATALOG})  # type: ignore[misc]
Remote = Annotated[bool, typer.Option("--remote", help="Ask the server, which may know more than this version does.")]

_BOUNDS = {"exclusiveMinimum": ">", "minimum": ">=", "exclusiveMaximum": "<", "maximum": "<="}
_NAMES = {"boolean": "true, false", "null": "null"}
_FEW = 6


@reported
def kinds(
    noun: Annotated[Noun | None, typer.Argument(help="One choice alone, with its fields.", show_default=False)] = None,
    remote: Remote = False,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Show what a spec may choose: normalizers, networks, optimizers and so on.

    Example: bnlab kinds normalizers
    """
    nouns = [noun.value] if noun else list(CATALOG)
    found = _remote(nouns, url) if remote else {name: [vars(kind) for kind in known_kinds(name)] for name in nouns}
    if as_json:
        emit(found)
        return
    for name, members in found.items():
        show(table(("kind", "what it is"), [(kind["kind"], _first_line(kind)) for kind in members], title=name))
        for kind in members if noun else []:
            fields = _fields(kind["schema"])
            if fields:
                show("")
                show(table(("field", "default", "takes", "meaning"), fields, title=str(kind["kind"])))


def _remote(nouns: list[str], url: str | None) -> dict[str, list[dict[str, Any]]]:
    with connect(url) as client:
        return {noun: client.catalog(noun) for noun in nouns}


def _first_line(kind: dict[str, Any]) -> str:
    return str(kind["description"]).partition("\n")[0]


def _fields(schema: dict[str, Any]) -> list[tuple[str, Any, str, str]]:
    fields = schema.get("properties", {})
    return [
        (name, _default(field), _takes(field), field.get("description", ""))
        for name, field in fields.items()
        if name != "kind"
    ]


def _default(field: dict[str, Any]) -> Any:
    """Of a part that has kinds, the kind."""
    default = field.get("default")
    return default.get("kind", default) if isinstance(default, dict) else default


def _takes(field: dict[str, Any]) -> str:
    """The choices or the range of a field, read off its JSON schema; of a list, those of what is in it."""
    if "anyOf" in field:
        return " or ".join(filter(None, map(_takes, field["anyOf"])))
    if "enum" in field or "const" in field:
        return ", ".join(map(str, field.get("enum", [field.get("const")])))
    if "discriminator" in field:
        return _kinds_of(list(field["discriminator"].get("mapping", {})))
    if "$ref" in field:
        return "an object"
    if "items" in field:
        return f"list of {_takes(field['items']) or 'values'}"
    if field.get("type") in _NAMES:
        return _NAMES[field["type"]]
    return ", ".join(f"{sign} {field[bound]:g}" for bound, sign in _BOUNDS.items() if bound in field)


def _kinds_of(kinds: list[str]) -> str:
    """Named while they are few enough for a line."""
    return ", ".join(kinds) if len(kinds) <= _FEW else f"{len(kinds)} kinds"
