"""Write the pages of `docs/norms/` from docstrings, from the spec and from the YAML files there: `make pages`.

The pages say nothing of their own: what they say stands where it is held to be right. A test writes them anew and
compares.
"""

import importlib
import inspect
import json
import re
import sys
import textwrap
from pathlib import Path
from typing import Any

import yaml

from bncore.spec import SpecError, kinds, load_spec

PLACE = Path(__file__).parent / "norms"
_ALL = "[All normalizations](README.md)"
_LINKS = f"{_ALL}, [which one?](which_one.md)"
_BY_SITUATION = (
    "By situation; whatever fits, measure it against plain batch norm. Which features of torch and of this library go "
    f"together with which layer: [two features at once](pairs.md). {_ALL}"
)
_AT_ONCE = (
    "Each layer is trained in a small network with each pair of these, and what comes out (outputs, gradients, "
    "parameters and statistics of every step, then an evaluation) has to be what plain code without them gives: in "
    "double precision to eight digits, with autocast as near to single precision as autocast takes plain code. A pair "
    "is right (✓), refused by this library with an error that says why (r), or refused by torch, of its own layers or "
    "for a reason that lies in torch (t); where in brackets, for some layers only. The list below the table says for "
    "which and what the error is. On the diagonal is a feature by itself; what is refused there is refused in each "
    "pair. Where two things happen to a model, the row comes first. Freezing and recalibrating "
    "leave a layer without running statistics as it is."
)


def main() -> None:
    """Write into the folder given as an argument, or into the one beside this file."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else PLACE
    for name, text in pages().items():
        (folder / name).write_text(text)


def pages() -> dict[str, str]:
    """File names and their contents: a page for each entry of the notes, and the list of all."""
    notes = _read("notes")
    schemas = {kind.kind: kind.schema for kind in kinds("normalizers")}
    equations, papers = _read("equations"), _read("papers")
    found = {
        f"{name}.md": _page(name, {**note, "equation": equations.get(name)}, schemas.get(name), papers)
        for name, note in notes.items()
    }
    found |= {"README.md": _list_of(notes, schemas), "which_one.md": _which_one(_read("which_one"), notes)}
    return {**found, "pairs.md": _pairs(**_read("pairs"))}


def _read(name: str) -> Any:
    return yaml.safe_load((PLACE / f"{name}.yaml").read_text())


def _page(name: str, note: dict[str, Any], schema: dict[str, Any] | None, papers: dict[str, Any]) -> str:
    thing = _object(note)
    parts = [f"# {note['title']}"]
    if thing is not None:
        names = f"`bncore.{note['object']}`"
        if "applied_by" in note:
            names += f", applied by `bncore.norm.{note['applied_by']}`"
        parts.append(f"{names}. {_LINKS}")
        body, sections = _sections(inspect.getdoc(thing) or "")
    else:
        parts.append(_LINKS)
        body, sections = "", {}
    parts += [f"$$\n{equation.strip()}\n$$" for equation in (note["equation"] or "").split(",\\quad") if equation]
    parts += [body] if body else []
    parts += ["## When to use it", _flowed(note["when"]), "## What it costs", _flowed(note["cost"])]
    for title in ("Args", "Raises"):
        if title in sections:
            parts += [{"Args": "## Arguments", "Raises": "## Errors"}[title], sections[title]]
    if schema is not None:
        parts += ["## In a spec", *_example(name, note.get("network", {})), *_fields(schema)]
    cited = dict.fromkeys(re.findall(r"\barXiv (\d{4}\.\d{5})", body))
    parts += ["## Papers", "\n".join(_paper(number, papers[number]) for number in cited)] if cited else []
    return "\n\n".join(parts) + "\n"


def _paper(number: str, paper: dict[str, Any]) -> str:
    link = f"[arXiv {number}](https://arxiv.org/abs/{number})"
    return _flowed(f"- {paper['authors']}: *{paper['title']}*, {paper['year']}. {link}", hanging="  ")


def _which_one(situations: list[dict[str, str]], notes: dict[str, dict[str, Any]]) -> str:
    links = {name: f"[{note['title']}]({name}.md)" for name, note in notes.items()}
    parts = ["# Which one?", _flowed(_BY_SITUATION)]
    for one in situations:
        parts += [f"## {one['situation']}", _flowed(one["advice"].format_map(links))]
    return "\n\n".join(parts) + "\n"


def _pairs(features: dict[str, str], refused: list[dict[str, Any]]) -> str:
    rows = [f"| `{name}` | {said} |" for name, said in features.items()]
    parts = ["# Two features at once", f"{_LINKS}", _flowed(_AT_ONCE)]
    parts += ["\n".join(["| Feature | Is |", "| --- | --- |", *rows])]
    head = ["|  | " + " | ".join(f"`{name}`" for name in features) + " |", "| --- " * (len(features) + 1) + "|"]
    table = [
        f"| `{row}` | " + " | ".join(_marks(row, column, refused) for column in features) + " |" for row in features
    ]
    parts += ["## Which pairs", "\n".join([*head, *table]), "## Refused"]
    parts += ["\n".join(_refusal(one) for one in refused)]
    return "\n\n".join(parts) + "\n"


def _marks(row: str, column: str, refused: list[dict[str, Any]]) -> str:
    found = set()
    for one in refused:
        in_order = not one.get("ordered") or one["when"] == [row, column]
        if {*one["when"]} == {row, column} and in_order:
            mark = "t" if one.get("by") == "torch" else "r"
            found.add(f"({mark})" if "layers" in one else mark)
    return " ".join(sorted(found)) or "✓"


def _refusal(one: dict[str, Any]) -> str:
    what = (", then " if one.get("ordered") else " and ").join(f"`{name}`" for name in one["when"])
    layers = ", ".join(f"`{name}`" for name in one["layers"]) if "layers" in one else "all layers"
    by = "by torch, " if one.get("by") == "torch" else ""
    return _flowed(f'- {what}: {layers}; {by}"{one["error"]}". {one["instead"]}', hanging="  ")


def _name(note: dict[str, Any]) -> str:
    name = note.get("applied_by", note.get("object", "").rsplit(".", 1)[-1])
    return f"`{name}`" if name else ""


def _object(note: dict[str, Any]) -> Any:
    if "object" not in note:
        return None
    module, name = f"bncore.{note['object']}".rsplit(".", 1)
    return getattr(importlib.import_module(module), name)


def _sections(doc: str) -> tuple[str, dict[str, str]]:
    """The prose of a docstring as Markdown, and its sections as lists."""
    head, *rest = re.split(r"^(Args|Raises|Returns):\n", doc, flags=re.MULTILINE)
    body = "\n\n".join(_flowed(paragraph) for paragraph in head.strip().split("\n\n"))
    return body, {title: _items(text) for title, text in zip(rest[::2], rest[1::2], strict=True)}


def _items(text: str) -> str:
    entries = re.split(r"^(?=\S)", textwrap.dedent(text).strip(), flags=re.MULTILINE)
    items = []
    for entry in filter(None, entries):
        name, colon, said = " ".join(entry.split()).partition(": ")
        items.append(f"- `{name}`: {said}" if colon else f"- {name}")
    return "\n".join(_flowed(item, hanging="  ") for item in items)


def _flowed(text: str, hanging: str = "") -> str:
    # A line that began with the * of an equation would be an item of a list.
    words = re.sub("`[^`]*`", lambda code: code.group().replace(" ", "\0"), " ".join(text.split()))
    options = {"subsequent_indent": hanging, "break_long_words": False, "break_on_hyphens": False}
    return textwrap.fill(words, 120, **options).replace("\0", " ")


def _example(name: str, network: dict[str, str]) -> list[str]:
    """The smallest spec with it, and why the service refuses it if no spec with it makes sense yet."""
    spec = {"network": {"kind": "mlp", **network, "norm": {"kind": name}}}
    text = f"```json\n{json.dumps(spec)}\n```"
    try:
        load_spec(spec)
    except SpecError as error:
        return [text, _flowed(f"Refused as yet: {' '.join(f'{fault.detail}.' for fault in error.faults)}")]
    return [text]


def _fields(schema: dict[str, Any]) -> list[str]:
    rows = []
    for field, facts in schema["properties"].items():
        if field != "kind":
            said = facts.get("description", "").replace("|", "\\|")
            rows.append(f"| `{field}` | {json.dumps(facts.get('default'))} | {said} |")
    return ["\n".join(["| Field | Default | Meaning |", "| --- | --- | --- |", *rows])] if rows else []


def _list_of(notes: dict[str, dict[str, Any]], schemas: dict[str, Any]) -> str:
    rows = [
        f"| [{note['title']}]({name}.md) | {f'`{name}`' if name in schemas else ''} | {_name(note)} |"
        for name, note in notes.items()
    ]
    text = (
        "[Which one?](which_one.md) leads by situation, [two features at once](pairs.md) says what goes together. A "
        "page for each: the equation, when to use it, what it costs, the paper. `make pages` writes them from the "
        "docstrings, the spec and the YAML files there. What each costs on your machine: `python -m bench.norms`; what "
        "those that wrap one of torch's kernels cost a small network: `python -m bench.norm_steps`.\n\n"
        "Third derivatives by reverse mode, which torch's kernels give wrong, end in an error; watching for them costs "
        "a layer some three microseconds of a backward pass. Who takes first and second ones alone trains "
        "within "
        "`bncore.norm.first_derivatives_only()`, as the service does."
    )
    table = "\n".join(["| Normalization | `kind` in a spec | In `bncore` |", "| --- | --- | --- |", *rows])
    return f"# Normalizations\n\n{_flowed(text)}\n\n{table}\n"


if __name__ == "__main__":
    main()
