"""Whether a network sees numbers as they are measured, or all of one scale."""

from pydantic import Field

from bncore.spec.strict import SpecModel


class Standardized(SpecModel):
    """A data set whose inputs are of any scale."""

    standardize: bool = Field(
        default=True,
        description="Subtract the mean and divide by the standard deviation of the training examples, for each channel "
        "of images and each feature of vectors and sequences; what is constant is only centred.",
    )
