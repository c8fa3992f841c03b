"""From rows of the database to what a figure is made of, read only when it is this request's turn.

Invariant: what one figure reads is bounded in points, files and bytes, and what would be more is refused before it is
read; of several experiments whole series are read, since thinned ones have no mean.
"""

import functools
import hashlib
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy.orm import Session

from api.aside.pool import Work
from api.deps import Admitted
from api.refusals import ApiError, AsideRefused, FigureNotFound
from bncore.figures import FIGURES, Drawable, allowed
from bncore.figures.asked import packed
from bncore.figures.chosen import MOST_STEPS, few
from bncore.figures.curves import MOST_SERIES, chosen_keys
from bncore.recording import kind_in
from bncore.spec import up_to_date
from bncore.spec.wording import meant_or_all
from store import experiments, recordings, results, tables
from store.errors import ExperimentNotFound
from store.jobs.states import State

MOST_POINTS = 4_000_000
"""64 MB; a million takes a tenth of a second to read."""
_POINTS_OF_ONE = 4000
_MOST_FILES = 1000
_MOST_FILES_OF_ONE = 200
_MOST_FILE_BYTES = 64 << 20
_FIGURE = "bncore.figures.asked:figure"
_AFFORDABLE = 0.4
"""Of the CPU seconds that a figure may take, those that a PNG may be estimated at: a slower machine draws it, too."""

Refuse = Callable[[str, str], ApiError]
"""From the name of a parameter, and what would be right, to the error."""
Look = Mapping[str, Any]
"""Format, scale and `bncore.figures.Options` of a figure."""


@dataclass(frozen=True)
class Material:
    """What a figure is made of, found and not yet read."""

    figure: Drawable
    specs: dict[str, dict[str, Any]]
    keys: list[str]
    """Of series."""
    recordings: dict[str, list[tables.File]]
    """By experiment."""
    versions: list[Any]
    """What changes when any of it does."""
    unfinished: frozenset[str] = frozenset()
    """The experiments that have no result yet, or none any more."""

    def tag(self, look: Look) -> str:
        """The ETag of the figure, looking so."""
        text = json.dumps([self.figure.name, self.keys, self.versions, dict(look)], sort_keys=True)
        return f'"{hashlib.sha256(text.encode()).hexdigest()[:32]}"'


def recorded_kinds(session: Session, experiment_id: str) -> dict[str, list[tables.File]]:
    """The files of an experiment's recordings by kind, in order of their steps."""
    found: dict[str, list[tables.File]] = {}
    for file in recordings.listed(session, experiment_id):
        found.setdefault(kind_in(file.name), []).append(file)
    return found


def material(
    session: Session, rows: Sequence[tables.Experiment], name: str, keys: Sequence[str], refuse: Refuse
) -> Material:
    """What a figure of these experiments is made of. Raises `FigureNotFound`, and what `refuse` makes."""
    figure = FIGURES.get(name)
    ids = [row.id for row in rows]
    there = results.keys_of(session, ids)
    if figure is None or (figure.recordings is None and not there):
        raise FigureNotFound(name, [one.name for one in _of_all(session, rows, there)], None)
    specs = {row.id: row.spec for row in rows}
    versions: list[Any] = [[row.id, row.version, row.name] for row in rows]
    unfinished = frozenset(row.id for row in rows if row.state is not State.SUCCEEDED)
    if figure.recordings is None:
        chosen = _keys(session, ids, there, keys, refuse)
        return Material(figure, specs, chosen, {}, versions, unfinished)
    found = _recordings(session, figure, ids, refuse)
    if not any(found.values()):
        raise FigureNotFound(name, [one.name for one in _of_all(session, rows, there)], figure.recordings)
    versions += [[file.id for file in some] for some in found.values()]
    return Material(figure, specs, [], found, versions, unfinished)


async def draw(asked: Admitted, wanted: Material, look: Look, refuse: Refuse) -> bytes:
    """The figure, once it is its turn. Raises `AsideBusy`, `AsideLost`, `AsideRefused`, and what `refuse` makes."""

    def prepare() -> Awaitable[Work]:
        return asked.service.long_reads.run(functools.partial(_read, asked, wanted, look))

    return await picture(asked, _FIGURE, prepare, refuse)


async def picture(asked: Admitted, function: str, prepare: Callable[[], Awaitable[Work]], refuse: Refuse) -> bytes:
    """What such a function draws of what is prepared. Raises as `draw` does."""
    most = _AFFORDABLE * asked.service.settings.aside_seconds

    async def affordable() -> Work:
        work = await prepare()
        return Work({**work.asked, "affordable_seconds": most}, work.blobs)

    try:
        return await asked.service.aside.run(asked.request, asked.caller.owner, function, affordable)
    except AsideRefused as refused:
        if refused.field is None:
            raise
        raise refuse(refused.field, str(refused).removesuffix(".")) from None


def _of_all(session: Session, rows: Sequence[tables.Experiment], keys: Sequence[str]) -> list[Drawable]:
    kinds = {kind for row in rows for kind in recorded_kinds(session, row.id)}
    return allowed(keys, kinds)


def _keys(session: Session, ids: Sequence[str], there: Sequence[str], keys: Sequence[str], refuse: Refuse) -> list[str]:
    if missing := [key for key in keys if key not in there]:
        raise refuse("keys", f"There is no series {', '.join(missing)}; {meant_or_all(missing[0], there)}"[:1000])
    chosen = list(dict.fromkeys(keys)) or chosen_keys(there)
    if len(chosen) > MOST_SERIES:
        raise refuse("keys", f"At most {MOST_SERIES} series fit into a figure")
    if len(ids) > 1:
        points = sum(results.points_of(session, ids, chosen).values())
        if points > MOST_POINTS:
            detail = f"These series have {points:,} points together, more than {MOST_POINTS:,}: name fewer of them"
            raise refuse("keys", detail)
    return chosen


def _recordings(session: Session, figure: Drawable, ids: Sequence[str], refuse: Refuse) -> dict[str, list[tables.File]]:
    most = _files_of_one(figure, len(ids))
    found = {one: few(recorded_kinds(session, one).get(str(figure.recordings), []), most) for one in ids}
    size = sum(file.size for some in found.values() for file in some)
    if size > _MOST_FILE_BYTES:
        raise refuse(
            "name", f"Its recordings have {size:,} bytes, more than {_MOST_FILE_BYTES:,}: name fewer experiments"
        )
    return found


def _files_of_one(figure: Drawable, experiments: int) -> int:
    if figure.over_steps:
        return max(2, min(_MOST_FILES_OF_ONE, _MOST_FILES // experiments))
    return MOST_STEPS if experiments == 1 else 2


def _read(asked: Admitted, wanted: Material, look: Look) -> Work:
    database = asked.service.database
    most = _POINTS_OF_ONE if len(wanted.specs) == 1 else None
    series = {}
    if wanted.keys:
        with database.read() as session:
            there = experiments.visible(session, wanted.specs, owner=asked.sees)
            for one in wanted.specs:
                if one not in there:
                    raise ExperimentNotFound(one)
                found = results.series(session, one, wanted.keys, max_points=most)
                series[one] = {key: (points.steps, points.values) for key, points in found.items()}
    kind = str(wanted.figure.recordings)
    recorded = {
        one: {kind: [recordings.content(database, file.id) for file in some]}
        for one, some in wanted.recordings.items()
        if some
    }
    specs = wanted.specs if len(wanted.specs) == 1 else {one: up_to_date(spec) for one, spec in wanted.specs.items()}
    described, blobs = packed(specs, series, recorded, wanted.unfinished)
    return Work({**look, "name": wanted.figure.name, "experiments": described}, blobs)
