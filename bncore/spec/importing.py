"""What a file of data is to be read as: options of an import, all of which may be left out.

Invariant: what is not said is found in the file and shown in the report; nothing that changes a number is done unsaid.
"""

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from bncore.spec.data.shape import Task
from bncore.spec.faults import Fault, SpecError, faults_of
from bncore.spec.limits import NAME_CHARS
from bncore.spec.strict import SpecModel, Text

Format = Literal["npz", "parquet", "csv", "folders", "idx", "cifar", "huggingface"]
SignalKind = Literal["vector", "image", "sequence"]
ColumnType = Literal["number", "categorical", "ignore"]

_PIXELS = 4096
"""Of a side: an image of that size has 50 million numbers, more than any network here takes."""
_COLUMNS = 1024
"""Columns that can be named one by one; what is not named is found."""

Name = Annotated[Text, Field(min_length=1, max_length=NAME_CHARS)]
Side = Annotated[int, Field(ge=1, le=_PIXELS)]
Number = Annotated[float, Field(ge=-1e30, le=1e30)]


def _which(*kinds: tuple[type, str]) -> Discriminator:
    """Tells members of a union that are no models by their type, so that an error speaks of one of them."""

    def tag(value: Any) -> str:
        return next((name for kind, name in kinds if isinstance(value, kind)), kinds[0][1])

    return Discriminator(tag)


Names = Annotated[
    Annotated[Name, Tag("name")] | Annotated[list[Name], Field(min_length=1, max_length=_COLUMNS), Tag("names")],
    _which((str, "name"), (list, "names")),
]
Size = Annotated[
    Annotated[Side, Tag("side")] | Annotated[list[Side], Field(min_length=2, max_length=2), Tag("sides")],
    _which((int, "side"), (list, "sides")),
]


def _fills_in(value: Any) -> Any:
    """Neither member of the union would say that there is the other."""
    if value in ("mean", "median") or (isinstance(value, int | float) and not isinstance(value, bool)):
        return value
    raise PydanticCustomError("no_such_statistic", "Should be 'mean', 'median' or a number")


Impute = Annotated[
    Annotated[Literal["mean", "median"], Tag("statistic")] | Annotated[Number, Tag("number")],
    _which((str, "statistic"), (float, "number"), (int, "number")),
    BeforeValidator(_fills_in),
]


class CsvSpec(SpecModel):
    """How a CSV file is written; what is left out is found from its first lines and shown in the report."""

    delimiter: Literal[",", ";", "\t", "|", " "] | None = None
    header: bool | None = Field(default=None, description="Whether the first line names the columns.")
    decimal: Literal[".", ","] | None = Field(default=None, description="The decimal mark of its numbers.")


class HuggingFaceSpec(SpecModel):
    """A data set of the Hugging Face hub, read through their library by the worker that imports it."""

    name: Annotated[str, Field(max_length=NAME_CHARS, pattern=r"^[A-Za-z0-9_][\w.-]*(/[A-Za-z0-9_][\w.-]*)?$")]
    config: Name | None = Field(default=None, description="Which of its configurations; None is the only one.")
    revision: Name | None = Field(default=None, description="A commit or tag. Without, what is there on that day.")
    columns: Annotated[list[Name], Field(min_length=2, max_length=_COLUMNS)] | None = Field(
        default=None, description="Those to read; the others are ignored. None reads all."
    )


class ImportSpec(SpecModel):
    """How a file becomes a data set. Everything that is left out is found in the file, and shown in the report."""

    format: Literal["auto", "npz", "parquet", "csv", "folders", "idx", "cifar", "huggingface"] = Field(
        default="auto", description="auto goes by what is in the file."
    )
    task: Task | None = Field(
        default=None,
        description="None is tagging where each step of a sequence has a class of its own, else classification.",
    )
    kind: SignalKind | None = Field(default=None, description="What an example is, where a file may be read two ways.")
    inputs: Names | None = Field(
        default=None, description="The array of an npz, or the columns of a table, that networks see."
    )
    targets: Names | None = Field(
        default=None, description="The array of an npz or the column of a table to be predicted; of a regression any."
    )
    lengths: Name | None = Field(default=None, description="The array or column with the steps of each sequence.")
    part: Name | None = Field(default=None, description="The column that says train, validation or test.")
    columns: Annotated[dict[Name, ColumnType], Field(max_length=_COLUMNS)] = Field(
        default_factory=dict,
        description="What columns of a table are. A categorical one becomes a number, 0 or 1, for each of its values.",
    )
    csv: CsvSpec | None = None
    resize: Size | None = Field(
        default=None, description="[height, width], or the side of a square. Bilinear; proportions are not kept."
    )
    grayscale: bool = Field(default=False, description="Images with one channel, of ITU-R 601-2 luma.")
    impute: Impute | None = Field(
        default=None,
        description="What takes the place of missing and infinite features: mean or median of the column in the "
        "training part, or a number. None refuses such data.",
    )
    huggingface: HuggingFaceSpec | None = Field(default=None, description="Import from there; no file is uploaded.")

    @model_validator(mode="after")
    def _fits_together(self) -> "ImportSpec":
        faults = list(self._faults())
        if faults:
            raise PydanticCustomError("cross_field", "options do not fit together", {"faults": faults})
        return self

    @property
    def size(self) -> tuple[int, int] | None:
        """Height and width of images, where they are said."""
        if self.resize is None:
            return None
        return (self.resize, self.resize) if isinstance(self.resize, int) else (self.resize[0], self.resize[1])

    def _faults(self) -> Iterator[tuple[str, str, str]]:
        if self.csv is not None and self.format not in ("auto", "csv"):
            yield "/csv", f"Only with the format csv, and this says {self.format}", "does_not_fit"
        if self.huggingface is not None and self.format not in ("auto", "huggingface"):
            yield "/huggingface", f"Not with the format {self.format}, which is that of a file", "does_not_fit"
        if self.format == "huggingface" and self.huggingface is None:
            yield "/huggingface", "Is required with this format", "missing"
        if self.kind in ("vector", "sequence") and (self.resize is not None or self.grayscale):
            field = "resize" if self.resize is not None else "grayscale"
            yield f"/{field}", f"Is for images, and kind says {self.kind}", "does_not_fit"
        if self.kind in ("vector", "image") and self.task == "tagging":
            yield "/task", "Tagging wants sequences: a class for each step", "does_not_fit"
        if self.kind in ("vector", "image") and self.lengths is not None:
            yield "/lengths", f"Only sequences have lengths, and kind says {self.kind}", "does_not_fit"
        if isinstance(self.targets, list) and len(self.targets) > 1 and self.task != "regression":
            yield "/targets", "Several targets are a regression; say task: regression, or name one", "does_not_fit"


def load_import(value: Any) -> ImportSpec:
    """The options of a parsed document. Raises `SpecError` that names every field at fault."""
    if not isinstance(value, dict):
        raise SpecError([Fault("", "Must be an object", "not_an_object")])
    try:
        return ImportSpec.model_validate(value)
    except ValidationError as error:
        raise SpecError(faults_of(error, ImportSpec)) from None
