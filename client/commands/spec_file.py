"""From a file and `--set` options to the data of a spec. What is wrong with the file is reported with line numbers."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from bncore.spec import Fault, SpecError
from client.commands.outcome import Exit, describe, leave
from client.documents import Document, assign, looks_like_json, pointer_of, read_document
from client.errors import ApiError
from client.printable import one_line

MAX_BYTES = 4 * 1024 * 1024

SpecFile = Annotated[
    str, typer.Argument(help="A spec in YAML or JSON; - reads standard input.", metavar="FILE", show_default=False)
]
Assignments = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        help="Set one field: a dotted path and a value in YAML. Repeatable; later ones win.",
        metavar="PATH=VALUE",
        show_default=False,
    ),
]


def load(file: str, assignments: list[str] | None) -> Document:
    """The document in a file with the assignments made; ends the command when either cannot be read."""
    text = _read(file)
    try:
        document = read_document(text, json=looks_like_json(Path(file), text))
    except SpecError as error:
        leave(Exit.REFUSED, f"{file} cannot be read as a spec\n{describe(error.faults)}")
    return assigned(document.value, assignments, document.lines)


def assigned(value: Any, assignments: list[str] | None, lines: dict[str, int] | None = None) -> Document:
    """`value` with the assignments made; ends the command when one cannot be read."""
    for assignment in assignments or []:
        try:
            value = assign(value, assignment)
        except ValueError as error:
            leave(Exit.USAGE, f"--set {error}")
    return Document(value, lines or {}, tuple(map(pointer_of, assignments or [])))


@contextmanager
def faults_located(file: str, document: Document) -> Iterator[None]:
    """Report what is wrong with the spec together with the lines of its file, or as set beside it."""
    try:
        yield
    except SpecError as error:
        leave(Exit.REFUSED, f"{file} is not a valid spec\n{_located(error.faults, document)}")
    except ApiError as error:
        if error.status != 422 or not error.faults:
            raise
        leave(Exit.REFUSED, f"{file}: {error.title}\n{_located(error.faults, document)}")


def _located(faults: list[Fault], document: Document) -> str:
    lines = [describe(faults, document.place_of)]
    left = {document.kind_beside(fault.pointer) for fault in faults if fault.code == "unknown_field"} - {None}
    lines += [
        f"The fields of the former kind stay; --set '{one_line(part)}={{kind: ...}}' replaces them all."
        for part in sorted(map(str, left))
    ]
    return "\n".join(lines)


def _read(file: str) -> str:
    try:
        if file == "-":
            raw = sys.stdin.buffer.read(MAX_BYTES + 1)
        else:
            with open(file, "rb") as opened:
                raw = opened.read(MAX_BYTES + 1)
    except OSError as error:
        leave(Exit.USAGE, f"{file} cannot be opened: {error.strerror}")
    if len(raw) > MAX_BYTES:
        leave(Exit.REFUSED, f"{file} is larger than {MAX_BYTES:,} bytes; that is no spec")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        leave(Exit.REFUSED, f"{file} is not UTF-8 text")
