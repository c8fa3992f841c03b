"""The end of an import: arrays are closed, and `dataset.json` names each by its SHA-256: its own stands for all.

Invariant: the bytes of these files are a function of what was read, the options and the versions of the decoders.
"""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bncore.data.importing import bounds
from bncore.data.importing.arrays import ArrayFile
from bncore.data.importing.checking import Checked
from bncore.data.importing.contact import draw_contact_sheet
from bncore.data.importing.draft import Draft
from bncore.data.importing.measuring import Measured, Moments
from bncore.data.importing.missing import feature_name
from bncore.data.importing.report import FeatureReport, PartReport, Report, TargetReport
from bncore.spec.data.manifest import canonical_text

DATASET = "dataset.json"
REPORT = "report.json"
CONTACT_SHEET = "contact.png"
_VERSION = 1


def write_dataset(draft: Draft, checked: Checked) -> Report:
    """Finish the files in the draft's folder: arrays, `dataset.json`, `report.json`, and a contact sheet of images."""
    if draft.laid_out.kind == "image":
        draw_contact_sheet(draft, draft.folder / CONTACT_SHEET)
    described = _described(draft, checked)
    text = canonical_text(described).encode()
    (draft.folder / DATASET).write_bytes(text)
    arrays = sum(array.size for part in draft.parts.values() for array in part.arrays.values())
    report = _report(draft, checked, described, hashlib.sha256(text).hexdigest(), arrays + len(text))
    (draft.folder / REPORT).write_text(report.model_dump_json(indent=1) + "\n", encoding="utf-8")
    return report


def dataset_files(folder: Path) -> list[Path]:
    """What `write_dataset` leaves, in the order in which it should be passed on: `dataset.json` last."""
    first = [path for path in sorted(folder.iterdir()) if path.name != DATASET]
    return [*first, folder / DATASET]


def _described(draft: Draft, checked: Checked) -> dict[str, Any]:
    layout = draft.laid_out
    classes = None if layout.task == "regression" else draft.labels.names
    return {
        "version": _VERSION,
        "signal": {"kind": layout.kind, "shape": list(layout.shape), "lengths": layout.lengths},
        "task": layout.task,
        "outputs": layout.outputs if classes is None else len(classes),
        "classes": classes,
        "parts": {name: _described_part(draft, name, checked.parts[name]) for name in draft.parts},
    }


def _described_part(draft: Draft, name: str, measured: Measured) -> dict[str, Any]:
    part = draft.parts[name]
    return {
        "examples": measured.examples,
        "inputs": _described_array(part.inputs),
        "targets": _described_array(part.targets),
        "lengths": None if part.lengths is None else _described_array(part.lengths),
        "class_counts": None if measured.class_counts is None else measured.class_counts.tolist(),
    }


def _described_array(array: ArrayFile) -> dict[str, Any]:
    return {
        "file": array.path.name,
        "dtype": array.dtype.name,
        "shape": list(array.shape),
        "size": array.size,
        "sha256": array.finish(),
    }


def _report(draft: Draft, checked: Checked, described: dict[str, Any], sha256: str, size: int) -> Report:
    moments, classes = checked.moments, described["classes"]
    return Report(
        sha256=sha256,
        bytes=size,
        format=draft.format,
        kind=draft.laid_out.kind,
        shape=described["signal"]["shape"],
        dtype=np.dtype(draft.laid_out.dtype).name,
        task=described["task"],
        outputs=described["outputs"],
        classes=None if classes is None else classes[: bounds.SHOWN],
        parts={name: _part_report(name, measured, checked) for name, measured in checked.parts.items()},
        features=[_feature_report(draft, checked, place) for place in range(min(len(moments.mean), bounds.SHOWN))],
        feature_count=len(moments.mean),
        missing_values=int(checked.missing.counts.sum()),
        constant_features=int((moments.least == moments.largest).sum()),
        targets=_target_reports(checked.parts["train"].targets),
        notes=draft.notes[: bounds.SHOWN],
        warnings=checked.warnings[: bounds.SHOWN],
    )


def _part_report(name: str, measured: Measured, checked: Checked) -> PartReport:
    counts = measured.class_counts
    return PartReport(
        examples=measured.examples,
        class_counts=None if counts is None else counts[: bounds.SHOWN].tolist(),
        duplicates=measured.duplicates,
        duplicates_of_train=0 if name == "train" else measured.also_in(checked.parts["train"]),
        lengths=None if measured.lengths is None else list(measured.lengths),
    )


def _feature_report(draft: Draft, checked: Checked, place: int) -> FeatureReport:
    moments, missing = checked.moments, checked.missing
    filled = missing.values is not None and missing.counts[place] > 0
    return FeatureReport(
        name=feature_name(draft, place)[: bounds.LABEL_CHARS],
        mean=float(moments.mean[place]),
        sd=float(moments.sd[place]),
        minimum=float(moments.least[place]),
        maximum=float(moments.largest[place]),
        constant=bool(moments.least[place] == moments.largest[place]),
        missing=int(missing.counts[place]),
        imputed=float(_values(missing.values)[place]) if filled else None,
    )


def _values(values: NDArray[np.float64] | None) -> NDArray[np.float64]:
    assert values is not None
    return values


def _target_reports(moments: Moments | None) -> list[TargetReport] | None:
    if moments is None:
        return None
    numbers = zip(moments.mean, moments.sd, moments.least, moments.largest, strict=True)
    return [
        TargetReport(mean=float(mean), sd=float(sd), minimum=float(low), maximum=float(high))
        for mean, sd, low, high in list(numbers)[: bounds.SHOWN]
    ]
