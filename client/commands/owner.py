"""`bnlab owner`: whose key this is."""

from client.commands.connection import AsJson, Url, connect
from client.commands.outcome import reported
from client.commands.output import emit, inline, show, table


@reported
def owner(url: Url = None, as_json: AsJson = False) -> None:
    """Show whose key this is, what they use and may use.

    Example: bnlab owner
    """
    with connect(url) as client:
        found = client.owner()
    if as_json:
        emit(found)
        return
    show(f"{inline(found['id'])} {inline(found['name'])}")
    limits = found["limits"]
    named = ("queued_jobs", "running_jobs", "stored_bytes", "requests_per_second")
    rows = [(key.replace("_", " "), found.get(key), limits.get(key)) for key in named]
    show(table(("what", "used", "limit"), rows))
