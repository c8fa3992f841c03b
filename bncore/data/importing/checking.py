"""From a draft to a data set: what is missing is filled in or refused, classes are numbered, everything is measured."""

from dataclasses import dataclass

import numpy as np

from bncore.data.dataset import IGNORED, InvalidData
from bncore.data.importing.draft import PARTS, Draft, DraftPart
from bncore.data.importing.measuring import Measured, Moments, measure_part
from bncore.data.importing.missing import Missing, impute, zero_behind_end
from bncore.spec.importing import ImportSpec


@dataclass
class Checked:
    """What is known of a draft that is a data set: moments of the training part, and what each part has."""

    moments: Moments
    parts: dict[str, Measured]
    missing: Missing
    warnings: list[str]


def check_draft(draft: Draft, spec: ImportSpec) -> Checked:
    """Make the draft canonical, and measure it. Raises `InvalidData` for what nothing can be trained on."""
    draft.parts = {name: draft.parts[name] for name in PARTS if name in draft.parts}
    if "train" not in draft.parts:
        raise InvalidData(f"there is no training part, only {', '.join(draft.parts) or 'nothing'}")
    for name, part in draft.parts.items():
        _check_lengths(name, part)
        _check_targets(draft, name, part)
    missing = impute(draft, spec.impute)
    layout = draft.laid_out
    moments = Moments(layout.shape[0] if layout.kind == "image" else layout.shape[-1])
    parts = {name: measure_part(draft, name, moments if name == "train" else None) for name in draft.parts}
    if layout.task != "regression":
        _check_classes(draft, parts)
    return Checked(moments, parts, missing, _warnings(draft, parts, moments))


def _check_lengths(name: str, part: DraftPart) -> None:
    if part.lengths is None:
        return
    steps = part.inputs.shape[1]
    for start, lengths in part.lengths.pieces():
        wrong = np.flatnonzero((lengths < 1) | (lengths > steps))
        if len(wrong):
            raise InvalidData(
                f"example {start + wrong[0] + 1} of {name} has the length {lengths[wrong[0]]}; "
                f"a length is at least 1, and here at most {steps}"
            )
    zero_behind_end(part.inputs, part.lengths)


def _check_targets(draft: Draft, name: str, part: DraftPart) -> None:
    ranks = draft.labels.ranks()
    for start, rows in part.targets.pieces():
        if draft.laid_out.task == "regression":
            wrong = np.argwhere(~np.isfinite(rows))
            if len(wrong):
                raise InvalidData(
                    f"example {start + wrong[0][0] + 1} of {name} has a target that is missing or not finite; remove it"
                )
        elif draft.laid_out.task == "tagging":
            part.targets.put(start, _tags(name, part, start, rows, ranks))
        else:
            part.targets.put(start, ranks[rows])


def _tags(name: str, part: DraftPart, start: int, rows: np.ndarray, ranks: np.ndarray) -> np.ndarray:
    lengths = np.full(len(rows), rows.shape[1]) if part.lengths is None else part.lengths.rows(start, len(rows))
    inside = np.arange(rows.shape[1]) < lengths[:, np.newaxis]
    wrong = np.argwhere(inside & (rows < 0))
    if len(wrong):
        example, step = wrong[0]
        raise InvalidData(f"example {start + example + 1} of {name} has no class at its step {step + 1}")
    return np.where(inside, ranks[rows], IGNORED)


def _check_classes(draft: Draft, parts: dict[str, Measured]) -> None:
    names = draft.labels.names
    train = parts["train"].class_counts
    assert train is not None
    if len(names) < 2 or np.count_nonzero(train) < 2:
        raise InvalidData(f"all training examples are of one class, {names[0]!r}; there is nothing to learn")
    unknown = [names[place] for place in np.flatnonzero(train == 0)]
    if unknown:
        raise InvalidData(f"classes without a training example: {', '.join(unknown[:10])}; give some, or remove them")
    alone = [names[place] for place in np.flatnonzero(train < 2)]
    if alone and "test" not in parts and draft.laid_out.task == "classification":
        raise InvalidData(
            f"classes of one example: {', '.join(alone[:10])}; there is no test part, and a split needs two. "
            "Add some, remove the class, or give a test part"
        )


def _warnings(draft: Draft, parts: dict[str, Measured], moments: Moments) -> list[str]:
    warnings: list[str] = []
    train, names = parts["train"], draft.labels.names
    if train.duplicates:
        split = "" if "test" in parts else "; a test part drawn from it may have some that were trained on"
        warnings.append(f"{train.duplicates:,} training examples have the inputs of an earlier one{split}.")
    for name, part in parts.items():
        shared = part.also_in(train) if name != "train" else 0
        if shared:
            warnings.append(f"{shared:,} of {part.examples:,} {name} examples have the inputs of a training example.")
        if part.class_counts is not None and not part.class_counts.all():
            lacking = [names[place] for place in np.flatnonzero(part.class_counts == 0)]
            warnings.append(f"The {name} part has no example of {', '.join(lacking[:10])}.")
    constant = np.flatnonzero(moments.least == moments.largest)
    if len(constant):
        few = ", ".join(draft.columns[place] if draft.columns else str(place) for place in constant[:10])
        warnings.append(f"{len(constant):,} features are constant in the training part: {few}.")
    return warnings
