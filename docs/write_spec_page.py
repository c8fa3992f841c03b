"""Write docs/spec.md from the classes of a spec: `make pages`.

The page says nothing of its own. A test writes it anew and compares.
"""

import json
import re
import sys
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from bncore.spec import ExperimentSpec, Part, fields, parts
from bncore.spec.catalog import Kind, described

PLACE = Path(__file__).parent / "spec.md"
_HEAD = """# The spec, field by field

Written by `make pages` from the classes that validate a spec; `bnlab kinds NAME` shows the same. What is left out has
the default in its table. Where a part has kinds, `kind` says which; it may be left out where the text names a usual one
and no field that only other kinds have is given. Unknown fields are refused. `null` among the defaults is a value, and
`-` stands where a field has to be given.
"""


def main() -> None:
    """Write into the file given as an argument, or beside this one."""
    (Path(sys.argv[1]) if len(sys.argv) > 1 else PLACE).write_text(page())


def page() -> str:
    """The text of the page."""
    whole = described(ExperimentSpec, has_a_choice=False)
    sections = [_HEAD, "## The whole", _table(whole, "")]
    for part in parts():
        sections += _section(part)
    return "\n\n".join(section.strip() for section in sections) + "\n"


def _section(part: Part) -> list[str]:
    kinds = part.kinds()
    said = [f"## {part.name}"]
    others = part.places[1:]
    if others:
        said.append(f"Also at {', '.join(f'`{place}`' for place in others)}.")
    if not part.is_a_choice:
        return [*said, *(_described(kind, part.path) for kind in kinds)]
    usual = _usual(part)
    said.append(f"{len(kinds)} kinds{f'; `{usual}` where none is named' if usual else ''}.")
    return [*said, *(f"### `{kind.kind}`\n\n{_described(kind, part.path)}" for kind in kinds)]


def _usual(part: Part) -> str | None:
    """The kind of an object that names none, as validation has it."""
    default = getattr(ExperimentSpec.model_validate({}), part.name, None)
    if not isinstance(default, BaseModel) or len(part.members) == 1:
        return None
    return str(ExperimentSpec.model_validate({part.name: {}}).model_dump(mode="json")[part.name]["kind"])


def _described(kind: Kind, path: str) -> str:
    text = "\n\n".join(" ".join(paragraph.split()) for paragraph in kind.description.split("\n\n"))
    return f"{_escaped(text)}\n\n{_table(kind, path)}".strip()


def _table(kind: Kind, path: str) -> str:
    required = kind.schema.get("required", [])
    rows = []
    for field in fields(kind.schema):
        name = f"`{field.name}`"
        below = f"{path}.{field.name}" if path else field.name
        linked = next((part for part in parts() if below in part.places), None)
        if linked is not None:
            name = f"[`{field.name}`](#{_anchor(linked.name)})"
        default = "-" if field.name in required else _default(field.default)
        rows.append(f"| {name} | {default} | {_escaped(field.takes)} | {_escaped(field.meaning)} |")
    return "\n".join(["| Field | Default | Takes | Meaning |", "| --- | --- | --- | --- |", *rows]) if rows else ""


def _default(value: Any) -> str:
    if isinstance(value, dict):
        return "its defaults" if value else "{}"
    return _escaped(value if isinstance(value, str) else json.dumps(value))


def _anchor(title: str) -> str:
    """As Markdown's renderers make it of a heading."""
    return re.sub(r"[^a-z0-9 _-]", "", title.lower()).replace(" ", "-")


def _escaped(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*")


if __name__ == "__main__":
    main()
