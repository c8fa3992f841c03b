"""From what a person calls an experiment to its id: the id, the beginning of it, a name, or `last`.

Invariant: no guess. What could mean two experiments is refused, and both are shown.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice, takewhile

from bncore.spec.wording import nearest
from client.errors import ClientError, Json
from client.http import Client
from client.printable import one_line

NEWEST = "last"
MOST_SHOWN = 10
MOST_NEAR = 100
"""Of the newest experiments, whose names are compared with one that there is not."""
MOST_SEARCHED = 5_000
"""The server finds by name; beginnings of ids are looked for here, so not among millions."""

_WHOLE = re.compile(r"exp_[0-9a-f]{32}")
_OF_ANOTHER_KIND = re.compile(r"(dat|evl)_[0-9a-f]{32}")
_BEGINNING = re.compile(r"exp_[0-9a-f]{0,31}")
_TIME_DIGITS = 12
"""An id begins with the milliseconds of its making (UUIDv7), in so many hexadecimal digits."""
_CLOCKS_DIFFER_MS = 3_600_000


def id_of(client: Client, wanted: str) -> str:
    """The id of the one experiment that can be meant. Raises `ClientError`."""
    if _WHOLE.fullmatch(wanted):
        return wanted
    if wanted == NEWEST:
        found: Iterable[Json] = islice(client.list(page_size=1), 1)
    elif _BEGINNING.fullmatch(wanted):
        found = _beginning_with(client, wanted)
    else:
        found = client.list(name=wanted, page_size=MOST_SHOWN + 1)
    is_name = wanted != NEWEST and not _BEGINNING.fullmatch(wanted)
    newest = islice(client.list(page_size=MOST_NEAR), MOST_NEAR) if is_name else ()
    return only("experiment", wanted, found, ("id", "state", "name"), newest)


def job_of(client: Client, wanted: str) -> str:
    """The same where a data set or an evaluation may be meant as well, by its whole id. Raises `ClientError`."""
    return wanted if _OF_ANOTHER_KIND.fullmatch(wanted) else id_of(client, wanted)


def only(noun: str, wanted: str, candidates: Iterable[Json], shown: Sequence[str], others: Iterable[Json] = ()) -> str:
    """The id of the one there is; `shown` are the fields that tell several apart, `others` may have been meant.

    Raises `ClientError`.
    """
    found = list(islice(candidates, MOST_SHOWN + 1))
    names = [str(entry["name"]) for entry in (() if found else others) if entry.get("name")]
    if len(found) == 1:
        return str(found[0]["id"])
    if not found:
        hint = f"; did you mean {one_line(close)}?" if (close := nearest(wanted, names)) else ""
        raise ClientError(f"no {noun} is called '{one_line(wanted)}', and no id begins like that{hint}")
    lines = ["  " + " ".join(one_line(str(entry.get(key) or "-")) for key in shown) for entry in found[:MOST_SHOWN]]
    lines += ["  ..."] * (len(found) > MOST_SHOWN)
    raise ClientError("\n".join([f"'{one_line(wanted)}' could be any of these; give the id, or more of it:", *lines]))


def _beginning_with(client: Client, wanted: str) -> Iterator[Json]:
    """Newest first; the listing is left where ids are too old to begin like that."""
    earliest_ms = int(wanted[4:][:_TIME_DIGITS].ljust(_TIME_DIGITS, "0"), 16) - _CLOCKS_DIFFER_MS
    young_enough = takewhile(lambda entry: _made_ms(entry) >= earliest_ms, client.list())
    for searched, entry in enumerate(young_enough):
        if searched == MOST_SEARCHED:
            raise ClientError(f"'{wanted}' is not among the newest {MOST_SEARCHED:,} experiments; give the whole id")
        if str(entry["id"]).startswith(wanted):
            yield entry


def _made_ms(entry: Json) -> int:
    digits = str(entry["id"])[4:][:_TIME_DIGITS]
    return int(digits, 16) if re.fullmatch(r"[0-9a-f]+", digits) else 0
