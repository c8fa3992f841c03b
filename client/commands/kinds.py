"""`bnlab kinds`: what a spec may choose from, and what can stand in it."""

from typing import Annotated, Any

import typer

from bncore.spec import CATALOG, Part, fields, other_than, parts
from bncore.spec import kinds as known_kinds
from bncore.spec.wording import nearest
from client.commands.connection import AsJson, Url, connect
from client.commands.outcome import Exit, leave, reported
from client.commands.output import emit, show, table
from client.printable import one_line

Remote = Annotated[bool, typer.Option("--remote", help="Ask the server, which may know more than this version does.")]
Noun = Annotated[
    str | None,
    typer.Argument(
        help=f"One choice alone, with its fields: {', '.join(CATALOG)}; one kind of it, such as layer_norm; or a "
        "part of a spec, such as train, "
        "evaluation, checkpoint, resources, data.augment.",
        metavar="[NOUN]",
        show_default=False,
    ),
]
_Listed = dict[str, list[dict[str, Any]]]


@reported
def kinds(noun: Noun = None, remote: Remote = False, url: Url = None, as_json: AsJson = False) -> None:
    """Show what a spec may choose: normalizers, networks, optimizers and so on, and the fields of each of its parts.

    Examples:

    bnlab kinds normalizers

    bnlab kinds layer_norm

    bnlab kinds train
    """
    found = _named(noun, url if remote else None, remote=remote) if noun else _all(url, remote=remote)
    if as_json:
        emit(found)
        return
    for name, members in found.items():
        if len(members) > 1 or members[0]["kind"]:
            show(table(("kind", "what it is"), [(kind["kind"], _first_line(kind)) for kind in members], title=name))
        for kind in members if noun else []:
            _print_fields(name, kind)
    if noun is None:
        rows = [(part.name, _in_short([vars(kind) for kind in part.kinds()])) for part in _plain_parts()]
        show(table(("part", "what it says"), rows, title="parts of a spec"))


def _all(url: str | None, *, remote: bool) -> _Listed:
    return _remote(list(CATALOG), url) if remote else {name: _local(name) for name in CATALOG}


def _named(noun: str, url: str | None, *, remote: bool) -> _Listed:
    if noun in CATALOG:
        return _remote([noun], url) if remote else {noun: _local(noun)}
    found = [part for part in parts() if noun in part.places]
    if not found and (alone := _kinds_called(noun)):
        asked = _remote(alone, url) if remote else {name: _local(name) for name in alone}
        return {name: [kind for kind in members if kind["kind"] == noun] for name, members in asked.items()}
    if not found:
        leave(Exit.USAGE, f"'{one_line(noun)}' is no part of a spec; {_meant(noun)}")
    if remote:
        leave(Exit.USAGE, f"a server lists {', '.join(CATALOG)}; other parts are shown as this version has them")
    return {part.name: [vars(kind) for kind in part.kinds()] for part in found}


def _meant(noun: str) -> str:
    kinds_there = [kind.kind for name in CATALOG for kind in known_kinds(name)]
    names = [*CATALOG, *(part.path for part in parts()), *kinds_there]
    close = nearest(noun, names)
    return f"did you mean {close}?" if close else f"there are {', '.join(dict.fromkeys(names[: -len(kinds_there)]))}"


def _kinds_called(kind: str) -> list[str]:
    """The choices that have a kind of that name."""
    return [name for name in CATALOG if not other_than(name, kind)]


def _local(noun: str) -> list[dict[str, Any]]:
    return [vars(kind) for kind in known_kinds(noun)]


def _remote(nouns: list[str], url: str | None) -> _Listed:
    with connect(url) as client:
        return {noun: client.catalog(noun) for noun in nouns}


def _plain_parts() -> list[Part]:
    """Those that are not shown as a choice above."""
    shown = {kind.kind for noun in CATALOG for kind in known_kinds(noun)}
    return [part for part in parts() if not {kind.kind for kind in part.kinds()} <= shown]


def _print_fields(name: str, kind: dict[str, Any]) -> None:
    rows = [(field.name, field.default, field.takes, field.meaning) for field in fields(kind["schema"])]
    if rows:
        show("")
        show(table(("field", "default", "takes", "meaning"), rows, title=str(kind["kind"] or name)))


def _in_short(kinds: list[dict[str, Any]]) -> str:
    return _first_line(kinds[0]) if len(kinds) == 1 else ", ".join(kind["kind"] for kind in kinds)


def _first_line(kind: dict[str, Any]) -> str:
    return str(kind["description"]).partition("\n")[0]
