"""`bnlab workers`: who is there to train."""

from client.commands.connection import AsJson, Url, connect
from client.commands.outcome import reported
from client.commands.output import emit, minute, show, table
from client.errors import Json


@reported
def workers(url: Url = None, as_json: AsJson = False) -> None:
    """List the workers that are connected, and what each is at.

    Example: bnlab workers --json
    """
    with connect(url) as client:
        found = list(client.workers())
    if as_json:
        emit(found)
        return
    rows = [
        (each["host"], each["device"], each.get("device_model"), _at(each), minute(each["since"]), each.get("trouble"))
        for each in found
    ]
    show(table(("host", "device", "model", "at", "since (UTC)", "trouble"), rows))


def _at(worker: Json) -> str:
    # Of other owners' experiments it is only said that there is one.
    return str(worker.get("working_on") or ("busy" if worker.get("is_busy") else "idle"))
