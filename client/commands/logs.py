"""`bnlab logs`: what the trainer of an experiment printed."""

from typing import Annotated

import typer

from client.commands.connection import AsJson, ExperimentId, Url, connect
from client.commands.naming import job_of
from client.commands.outcome import reported
from client.commands.output import emit, pass_on, tell

Tail = Annotated[int | None, typer.Option("--tail", "-n", min=1, max=10_000, help="The last lines only.", metavar="N")]
Follow = Annotated[
    bool, typer.Option("--follow", "-f", help="Go on with what is printed later, until the experiment has ended.")
]
Attempt = Annotated[
    int | None, typer.Option("--attempt", min=1, help="Of this attempt, not of the newest.", metavar="N")
]


@reported
def logs(
    experiment: ExperimentId,
    tail: Tail = None,
    follow: Follow = False,
    attempt: Attempt = None,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Show what the trainer printed: warnings, a traceback. A run without trouble prints little or nothing.

    Example: bnlab logs last --follow
    """
    text = ""
    with connect(url) as client:
        for piece in client.log(job_of(client, experiment), attempt=attempt, tail=tail, follow=follow):
            text = text + piece if as_json else piece
            if not as_json:
                pass_on(piece)
    if as_json:
        emit({"lines": text.removesuffix("\n").split("\n") if text else []})
    elif not text:
        tell("Nothing was printed.")
    elif not text.endswith("\n"):
        pass_on("\n")
