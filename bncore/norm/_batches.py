"""What every layer wants of its input: a batch axis, its channels along axis 1, numbers of a floating-point type.

Shapes: N examples, C channels (axis 1), any further axes are positions.
"""

from torch import Tensor


def check_rank(x: Tensor) -> None:
    """Raise ValueError unless `x` has a batch axis and a channel axis."""
    if x.dim() < 2:
        raise ValueError(f"expected a batch of shape (N, C, ...), got {x.dim()} axes; add the batch axis")


def check_channels(x: Tensor, num_features: int) -> None:
    """Raise ValueError unless `x` is a batch of floating-point numbers with so many channels.

    Kernels would read past the end of a vector, and broadcasting takes shapes that are not meant.
    """
    if x.dim() < 2:
        check_rank(x)
    channels = x.shape[1]
    # Traced, sizes are tensors, and to ask one is a warning.
    if not isinstance(channels, Tensor) and channels != num_features:
        raise ValueError(f"expected {num_features} channels along axis 1, got input size {tuple(x.shape)}")
    if not x.is_floating_point():
        check_floating_point(x)


def check_floating_point(x: Tensor) -> None:
    """Raise ValueError for whole numbers: the output has the type of the input, and would be rounded to them."""
    if not x.is_floating_point():
        raise ValueError(f"expected input of a floating-point type, got {x.dtype}")


def check_more_than_one_value(x: Tensor) -> None:
    """Raise ValueError for one value per channel: its variance is 0, and normalization would erase the input."""
    if x.numel() == x.shape[1]:
        raise ValueError(
            f"Expected more than 1 value per channel when training, got input size {tuple(x.shape)}; "
            "use a larger batch or drop the last partial one"
        )
