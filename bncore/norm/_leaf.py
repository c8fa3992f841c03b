"""Layers in graphs of `torch.fx`: one node each, as torch's own are.

A tracer looks into every layer that is not of `torch.nn`, and ends where Python asks for a shape. So a layer that is
called with a `Proxy` makes the node itself, whatever the tracer.
"""

from typing import Any, cast

from torch import Tensor, nn
from torch.fx import Proxy


def as_leaf(layer: nn.Module, *given: Any) -> Tensor:
    """The call of `layer` with these arguments, one of them a `Proxy`, as a node of the graph that is being traced.

    Raises:
        ValueError: the layer is the model that is traced, and no graph holds itself.
    """
    tracer: Any = next(one for one in given if isinstance(one, Proxy)).tracer
    path = tracer.path_of_module(layer)
    if not path:
        raise ValueError(f"a {type(layer).__name__} is one node of a graph: trace a model that holds it")
    while given[-1] is None:
        given = given[:-1]
    return cast("Tensor", tracer.create_proxy("call_module", path, given, {}))
