"""`bnlab pause`, `bnlab resume`, `bnlab retry`: experiments that rest, and go on."""

from client.commands.acting import Experiments, ask_each
from client.commands.connection import AsJson, Url
from client.commands.outcome import reported
from client.http import Client


@reported
def pause(experiments: Experiments, url: Url = None, as_json: AsJson = False) -> None:
    """Let experiments rest until `bnlab resume`. A running one saves a checkpoint first.

    Example: bnlab pause last
    """
    ask_each(experiments, Client.pause, url, as_json)


@reported
def resume(experiments: Experiments, url: Url = None, as_json: AsJson = False) -> None:
    """Queue paused experiments again; they go on from where they were.

    Example: bnlab resume last
    """
    ask_each(experiments, Client.resume, url, as_json)


@reported
def retry(experiments: Experiments, url: Url = None, as_json: AsJson = False) -> None:
    """Queue experiments that failed or were cancelled again; they go on from their last checkpoint.

    Example: bnlab retry digits-bn
    """
    ask_each(experiments, Client.retry, url, as_json)
