"""What an import found, for people and programs: what the data are, and what may be wrong with them."""

from pydantic import BaseModel, ConfigDict, Field

from bncore.spec.data.shape import Task
from bncore.spec.importing import Format, SignalKind

_LISTED = 12
"""Classes and columns that the text names one by one."""


class _Shown(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, ser_json_inf_nan="strings")


class PartReport(_Shown):
    """Of one part."""

    examples: int
    class_counts: list[int] | None = Field(
        description="In the order of `classes`, the first 256; None of a regression."
    )
    duplicates: int = Field(description="Examples whose inputs are those of an earlier one of the same part.")
    duplicates_of_train: int = Field(description="Examples whose inputs are those of a training example.")
    lengths: list[int] | None = Field(default=None, description="Shortest and longest sequence, in steps.")


class FeatureReport(_Shown):
    """Of one feature or channel, in the training part; of steps within sequences only. Pixels count as x / 255."""

    name: str
    mean: float
    sd: float = Field(description="Population standard deviation.")
    minimum: float
    maximum: float
    constant: bool
    missing: int = Field(description="Values in all parts that were missing or infinite, and were imputed.")
    imputed: float | None = Field(default=None, description="What took their place.")


class TargetReport(_Shown):
    """Of one number that a regression predicts, in the training part."""

    mean: float
    sd: float
    minimum: float
    maximum: float


class Report(_Shown):
    """What an import found. `sha256` is that of `dataset.json`, and stands for all of the data."""

    sha256: str
    bytes: int = Field(description="Of all files of the data set.")
    format: Format
    kind: SignalKind
    shape: list[int]
    dtype: str = Field(description="Of inputs as they are stored.")
    task: Task
    outputs: int
    classes: list[str] | None = Field(description="In the order of their numbers, the first 256.")
    parts: dict[str, PartReport]
    features: list[FeatureReport] = Field(description="The first 256.")
    feature_count: int
    missing_values: int
    constant_features: int
    targets: list[TargetReport] | None = Field(default=None, description="Of a regression.")
    notes: list[str]
    warnings: list[str]

    def text(self) -> str:
        """The same in some lines for people."""
        lines = [f"{_signal(self)}, read as {self.format}; {_task(self)}."]
        lines += [_part(name, part, self.classes) for name, part in self.parts.items()]
        lines += _features(self)
        lines += [f"Note: {note}" for note in self.notes]
        lines += [f"Warning: {warning}" for warning in self.warnings]
        lines.append(f"{self.bytes:,} bytes, SHA-256 {self.sha256}")
        return "\n".join(lines) + "\n"


def _signal(report: Report) -> str:
    shape = " x ".join(map(str, report.shape))
    what = {"image": f"Images of {shape} (channels x height x width)", "vector": f"Vectors of {shape} numbers"}
    return what.get(report.kind, f"Sequences of {shape} (steps x numbers)")


def _task(report: Report) -> str:
    if report.classes is None:
        return f"regression of {report.outputs} number{'s' * (report.outputs != 1)}"
    names = ", ".join(report.classes[:_LISTED])
    return f"{report.task} with {report.outputs} classes ({names}{', ...' * (report.outputs > _LISTED)})"


def _part(name: str, part: PartReport, classes: list[str] | None) -> str:
    words = [f"{name}: {part.examples:,} examples"]
    if part.class_counts is not None and classes is not None:
        counted = ", ".join(
            f"{name} {count:,}" for name, count in zip(classes, part.class_counts[:_LISTED], strict=False)
        )
        words.append(f"of {counted}{', ...' * (len(part.class_counts) > _LISTED)}")
    if part.lengths is not None:
        words.append(f"of {part.lengths[0]} to {part.lengths[1]} steps")
    return " ".join(words) + "."


def _features(report: Report) -> list[str]:
    noun = "channel" if report.kind == "image" else "feature"
    lines = [
        f"  {noun} {feature.name}: mean {feature.mean:.6g}, sd {feature.sd:.6g}, {feature.minimum:.6g} to "
        f"{feature.maximum:.6g}" + (f", {feature.missing:,} missing" if feature.missing else "")
        for feature in report.features[:_LISTED]
    ]
    if report.feature_count > _LISTED:
        lines.append(f"  and {report.feature_count - _LISTED:,} more.")
    return [f"Of the training part, {report.feature_count:,} {noun}{'s' * (report.feature_count != 1)}:", *lines]
