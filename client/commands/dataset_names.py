"""From what a person calls a data set to its id: the id, the beginning of it, a name, or `last`.

Invariant: no guess, as for experiments (`naming`).
"""

import re
from itertools import islice
from typing import Any

from client.commands.naming import NEWEST, only
from client.http import Client

_WHOLE = re.compile(r"dat_[0-9a-f]{32}")


def dataset_id_of(client: Client, wanted: str) -> str:
    """The id of the one data set that can be meant. Raises `ClientError`."""
    return _id_of(client, wanted)


def usable_id_of(client: Client, wanted: str) -> str:
    """As `dataset_id_of`; of several that are called so, one whose import did not fail: it is to be read."""
    return _id_of(client, wanted, to_read=True)


def with_dataset_ids(client: Client, document: Any) -> Any:
    """A document whose data sets, wherever they are and however called, have their ids. Raises `ClientError`."""
    if isinstance(document, list):
        return [with_dataset_ids(client, each) for each in document]
    if not isinstance(document, dict):
        return document
    named = document.get("id")
    if document.get("kind") == "dataset" and isinstance(named, str) and not _WHOLE.fullmatch(named):
        return {**document, "id": usable_id_of(client, named)}
    return {key: with_dataset_ids(client, value) for key, value in document.items()}


def _id_of(client: Client, wanted: str, *, to_read: bool = False) -> str:
    if _WHOLE.fullmatch(wanted):
        return wanted
    shown = ["id", "state", "name"]
    if wanted == NEWEST:
        return only("data set", wanted, islice(client.datasets(page_size=1), 1), shown)
    every = [*client.datasets(state="uploading"), *client.datasets()]
    found = [each for each in every if each["name"] == wanted or str(each["id"]).startswith(wanted)]
    if to_read:
        found = [each for each in found if each["state"] not in ("failed", "cancelled")] or found
    # An admin sees those of all owners.
    owners = {each.get("owner") for each in found}
    return only("data set", wanted, found, [*shown, *(["owner"] if len(owners) > 1 else [])], every)
