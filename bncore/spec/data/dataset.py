"""A data set that somebody brought in, by its id and, once completed, by its content.

Invariant: a completed `data` says all that decides what is trained on; neither the service nor the id is needed then.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from bncore.spec.data.manifest import Examples, Outputs, Sha256, SignalSpec, read_manifest, sha256_of
from bncore.spec.data.pixels import ImageOptions
from bncore.spec.data.shape import DataShape, Task
from bncore.spec.data.standardized import Standardized
from bncore.spec.data.training import Counts, TrainingPart
from bncore.spec.data.validation import ValidationSpec, shares
from bncore.spec.faults import Fault, SpecError
from bncore.spec.strict import SpecModel

COUNTED_CLASSES = 1000
"""A spec lists the sizes of so many classes at most: it is kept small enough to be sent again."""

_COMPLETED = ("sha256", "signal", "task", "outputs", "examples")
_TEST_SHARE = 0.2


class ExamplesSpec(SpecModel):
    """How many each part of the data set has; null where there is no such part."""

    train: Examples
    validation: Examples | None = None
    test: Examples | None = None


class DatasetSpec(ImageOptions, Standardized, TrainingPart):
    """A data set that was brought in (`bnlab dataset add`), named by its `id`.

    The service completes it when an experiment is submitted: what is said from `sha256` to `class_counts` need not be
    sent, and is refused where the data set is another one. Images are divided by 255. Where the set has no test part,
    one is drawn from the training part.
    """

    kind: Literal["dataset"] = "dataset"
    id: Annotated[str, Field(pattern=r"^dat_[0-9A-Za-z_-]{1,60}$")]
    sha256: Sha256 | None = Field(default=None, description="Of `dataset.json`, which stands for all of the content.")
    signal: SignalSpec | None = Field(default=None, description="What an example is.")
    task: Task | None = Field(default=None, description="What there is to predict.")
    outputs: Outputs | None = Field(default=None, description="Classes, or the numbers of a regression.")
    examples: ExamplesSpec | None = Field(default=None, description="Of each part.")
    class_counts_said: Annotated[Counts, Field(strict=False, max_length=COUNTED_CLASSES)] | None = Field(
        default=None, alias="class_counts", description="Training examples of each class, before any are held out."
    )
    test: ValidationSpec | None = Field(
        default=None,
        description="Training examples to test on, where the set has no test part of its own: a fifth unless said "
        "otherwise, of each class in proportion. Refused where it has one.",
    )

    @model_validator(mode="before")
    @classmethod
    def _is_completed(cls, value: Any) -> Any:
        if not isinstance(value, dict) or not isinstance(value.get("id"), str):
            return value
        missing = [name for name in _COMPLETED if value.get(name) is None]
        if missing:
            detail = (
                "Names a data set of the service, which completes it when it is submitted there, or tried out by "
                "`bnlab validate --remote`; without a service, "
                f"give {', '.join(missing)} too"
            )
            raise PydanticCustomError("cross_field", "not completed", {"faults": [("/id", detail, "not_completed")]})
        examples = value["examples"]
        if isinstance(examples, dict) and examples.get("test") is None and value.get("test") is None:
            return {**value, "test": {"share": _TEST_SHARE}}
        return value

    @model_validator(mode="after")
    def _parts_are_those_there_are(self) -> "DatasetSpec":
        examples, faults = self._examples(), []
        if self.test is not None and examples.test is not None:
            faults.append(("/test", "The data set has a test part of its own; leave it out", "part_exists"))
        if self.validation is not None and examples.validation is not None:
            faults.append(("/validation", "The data set has a validation part of its own; leave it out", "part_exists"))
        if self.test is not None and not 0 < self.test_drawn() < examples.train:
            detail = f"Would test on {self.test_drawn()} of {examples.train} examples; one at least, and one to be left"
            faults.append((f"/test/{'share' if self.test.count is None else 'count'}", detail, "nothing_left"))
        counts = self.class_counts_said
        if counts is not None and (len(counts) != self.outputs or sum(counts) != examples.train):
            detail = "Should be the training examples of each class: as many numbers as outputs, with the sum of train"
            faults.append(("/class_counts", detail, "wrong_counts"))
        faults += self.image_faults(self._signal().signal())
        if faults:
            raise PydanticCustomError("cross_field", "parts", {"faults": faults})
        return self

    def all_train_examples(self) -> int:
        return self._examples().train - self.test_drawn()

    def all_class_counts(self) -> Counts | None:
        if self.class_counts_said is None or self.test is None:
            return self.class_counts_said
        drawn = shares(self.class_counts_said, self.test_drawn())
        return tuple(count - share for count, share in zip(self.class_counts_said, drawn, strict=True))

    def test_drawn(self) -> int:
        """Training examples that are tested on, where there is no test part."""
        return 0 if self.test is None else self.test.examples(self._examples().train)

    def shape(self) -> DataShape:
        """Signal and sizes."""
        assert self.outputs is not None
        assert self.task is not None
        examples = self._examples()
        return DataShape(
            signal=self.seen(self._signal().signal()),
            outputs=self.outputs,
            train_examples=self.train_examples(),
            validation_examples=examples.validation or self.held_out(),
            test_examples=examples.test or self.test_drawn(),
            task=self.task,
            class_counts=self.class_counts(),
            whole_batches=self.sampler.whole_batches,
        )

    def _examples(self) -> ExamplesSpec:
        assert self.examples is not None
        return self.examples

    def _signal(self) -> SignalSpec:
        assert self.signal is not None
        return self.signal


def named_dataset(document: Any) -> str | None:
    """The id of the data set that the `data` of a document names, completed or not; None for all other data."""
    data = document.get("data") if isinstance(document, Mapping) else None
    if not isinstance(data, Mapping) or data.get("kind") != "dataset":
        return None
    named = data.get("id")
    return named if isinstance(named, str) else None


def complete(document: Mapping[str, Any], manifest: Mapping[str, Any]) -> dict[str, Any]:
    """The document (of an experiment, or of anything with `data`) with all that its data set's `dataset.json` says.

    `manifest` is that file's content. What the document says itself is kept; raises `SpecError` where it says of the
    data set what is not so, and `ManifestInvalid` for a manifest that is none.
    """
    data = dict(document["data"])
    found = _description(manifest)
    # As JSON: a tuple is no list, and equal all the same.
    faults = [
        Fault(f"/data/{name}", "Is another one in this data set; leave it out", "another_dataset")
        for name, value in found.items()
        if data.get(name) is not None and data[name] != value
    ]
    if faults:
        raise SpecError(faults)
    return {**document, "data": {**data, **found}}


def _description(manifest: Mapping[str, Any]) -> dict[str, Any]:
    parsed = read_manifest(manifest)
    parts, counts = parsed.parts.named(), parsed.parts.train.class_counts
    return {
        "sha256": sha256_of(manifest),
        "signal": parsed.signal.model_dump(mode="json"),
        "task": parsed.task,
        "outputs": parsed.outputs,
        "examples": {name: parts[name].examples if name in parts else None for name in ("train", "validation", "test")},
        "class_counts": None if counts is None or len(counts) > COUNTED_CLASSES else list(counts),
    }
