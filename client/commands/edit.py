"""`bnlab edit`: what experiments are called."""

from typing import Annotated

import typer

from client.actions import Edits
from client.commands.acting import Experiments, ask_each
from client.commands.connection import AsJson, Url
from client.commands.outcome import Exit, leave, reported
from client.printable import one_line

NewName = Annotated[
    str | None, typer.Option("--name", help="Call it so; empty text takes the name away.", metavar="TEXT")
]
NewTags = Annotated[
    list[str] | None,
    typer.Option("--tag", help="Set a tag; repeatable.", metavar="KEY:VALUE", show_default=False),
]
OldTags = Annotated[
    list[str] | None, typer.Option("--untag", help="Take a tag away; repeatable.", metavar="KEY", show_default=False)
]


@reported
def edit(
    experiments: Experiments,
    name: NewName = None,
    tags: NewTags = None,
    untag: OldTags = None,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Change the name and the tags of experiments.

    Example: bnlab edit last --name baseline --tag paper:1502.03167 --untag draft
    """
    edits: Edits = {}
    changed = dict(map(_tag, tags or ()))
    if both := sorted(changed.keys() & set(untag or ())):
        leave(Exit.USAGE, f"--tag sets and --untag takes away {', '.join(map(one_line, both))}: say one of them")
    if name is not None:
        edits["name"] = name or None
    if tags or untag:
        edits["tags"] = {**dict.fromkeys(untag or ()), **changed}
    if not edits:
        leave(Exit.USAGE, "say what to change: --name, --tag or --untag")
    ask_each(experiments, lambda client, experiment_id: client.edit(experiment_id, **edits), url, as_json)


def _tag(text: str) -> tuple[str, str]:
    key, colon, value = text.partition(":")
    if not colon:
        leave(Exit.USAGE, f"--tag {text!r} is not of the form key:value")
    return key, value
