"""Data sets of the Hugging Face hub, through their library: from a folder of the host, their cache, or the hub.

Invariant: what is asked for is a name, never a path: a user reads nothing of a host but what its operator put there.
No code of a data set is run; the library has no door for that from its version 4 on.
"""

import importlib.util
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from bncore.data.dataset import InvalidData
from bncore.data.importing.draft import PART_NAMES, Draft
from bncore.data.importing.job import Say, build
from bncore.data.importing.report import Report
from bncore.data.importing.streams import reading
from bncore.data.importing.table import Table
from bncore.data.importing.tables import read_tables
from bncore.spec.importing import HuggingFaceSpec, ImportSpec

_ROWS = 1000


def import_huggingface(
    options: ImportSpec,
    folder: Path | None,
    out_dir: Path,
    *,
    stop_asked: Callable[[], bool] = lambda: False,
    say: Say = lambda _phase: None,
) -> Report:
    """As `import_file`, from what `options.huggingface` names: first `folder`/<name>, then their cache and the hub.

    Raises `InvalidData` where their library is not installed, or does not find it.
    """
    said = options.huggingface
    if said is None:
        raise InvalidData("no data set of Hugging Face is named; say huggingface: {name}")
    if importlib.util.find_spec("datasets") is None:
        raise InvalidData("the library of Hugging Face is not installed here; install bnlab[huggingface]")

    def read(draft: Draft, scratch: Path) -> None:
        draft.format = "huggingface"
        splits = _loaded(said, folder, scratch)
        read_tables(_tables(said, splits, draft), options, draft)

    return build(read, options, out_dir, stop_asked, say)


def _loaded(said: HuggingFaceSpec, folder: Path | None, scratch: Path) -> dict[str, Any]:
    """The splits by name."""
    import datasets

    datasets.disable_progress_bars()
    here = folder / said.name if folder is not None else None
    with reading(f"the data set {said.name}"):
        if here is None or not here.is_dir():
            found = datasets.load_dataset(said.name, said.config, revision=said.revision)
        elif (here / "dataset_dict.json").exists() or (here / "state.json").exists():
            found = datasets.load_from_disk(str(here))
        else:
            # What their library makes of other files goes to where it is thrown away.
            found = datasets.load_dataset(str(here), said.config, cache_dir=str(scratch / "cache"))
    return dict(found) if isinstance(found, dict) else {"train": found}


def _tables(said: HuggingFaceSpec, splits: dict[str, Any], draft: Draft) -> list[Table]:
    parts = {split: PART_NAMES[split.lower()] for split in splits if split.lower() in PART_NAMES}
    others = sorted(set(splits) - set(parts))
    if others:
        draft.note(f"Splits that are no part were left out: {', '.join(others[:20])}.")
    if "train" not in parts.values() or len(set(parts.values())) < len(parts):
        raise InvalidData(f"{said.name} has the splits {', '.join(sorted(splits)[:20])}; one of each part is wanted")
    return [_table(said, splits[split], parts[split], draft) for split in parts]


def _table(said: HuggingFaceSpec, split: Any, part: str, draft: Draft) -> Table:
    what = f"{said.name} ({part})"
    if said.columns is not None:
        lacking = [name for name in said.columns if name not in split.column_names]
        if lacking:
            raise InvalidData(f"{what} has no column {lacking[0]!r}; it has {', '.join(split.column_names[:20])}")
        split = split.select_columns(said.columns)
    rows = split.with_format("arrow")

    def batches() -> Iterator[pa.RecordBatch]:
        for table in rows.iter(batch_size=_ROWS):
            draft.check()
            yield from table.combine_chunks().to_batches()

    return Table(what, tuple(split.column_names), batches, part, class_names=_class_names(split.features))


def _class_names(features: Any) -> dict[str, Any]:
    """Of columns of classes, or of lists of such, what each number is called."""
    inner = {name: getattr(feature, "feature", feature) for name, feature in features.items()}
    return {name: feature.names for name, feature in inner.items() if hasattr(feature, "names") and feature.names}
