"""`bnlab attempts`: who tried an experiment, and how each try ended."""

from client.commands.connection import AsJson, ExperimentId, Url, connect
from client.commands.naming import job_of
from client.commands.outcome import reported
from client.commands.output import emit, minute, show, table
from client.errors import Json


@reported
def attempts(experiment: ExperimentId, url: Url = None, as_json: AsJson = False) -> None:
    """List the attempts at an experiment, oldest first.

    Example: bnlab attempts last
    """
    with connect(url) as client:
        found = list(client.attempts(job_of(client, experiment)))
    if as_json:
        emit(found)
        return
    columns = ("attempt", "claimed (UTC)", "on", "from step", "ended (UTC)", "ending", "why")
    show(table(columns, map(_row, found)))


def _row(attempt: Json) -> list[object]:
    ended = attempt.get("ended_at")
    why = ": ".join(str(attempt[key]) for key in ("code", "message") if attempt.get(key))
    return [
        attempt["number"],
        minute(attempt["claimed_at"]),
        attempt.get("device_model") or attempt.get("device"),
        attempt.get("restored_step"),
        ended and minute(ended),
        attempt.get("ending"),
        why or None,
    ]
