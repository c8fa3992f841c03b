"""What was measured on a device, brought to the host together: to read each number by itself waits for it each time.
What lies on the host already is read for nothing, and stays where it is.

Invariant: a diagnostic reads so often as its equation makes it (an iteration, say), whatever the depth of the network.
"""

from collections.abc import Sequence

import torch
from torch import Tensor


def on_host(tensors: Sequence[Tensor]) -> list[Tensor]:
    """The same values in the same types and shapes, on the CPU, by one copy for each type (and device).

    Of tensors of the CPU no copy is made: what is found is theirs.
    """
    found = [one.detach() for one in tensors]
    alike: dict[tuple[torch.dtype, torch.device], list[int]] = {}
    for at, one in enumerate(tensors):
        if not one.is_cpu:
            alike.setdefault((one.dtype, one.device), []).append(at)
    for places in alike.values():
        of_type = [found[at] for at in places]
        brought = torch.cat([one.reshape(-1) for one in of_type]).cpu()
        apart = brought.split_with_sizes([one.numel() for one in of_type])
        for at, one, like in zip(places, apart, of_type, strict=True):
            found[at] = one.view(like.shape)
    return found


def numbers(tensors: Sequence[Tensor]) -> list[float]:
    """Of scalars () each."""
    return [one.item() for one in on_host(tensors)]
