"""What the library uses of torch that torch does not promise to keep: private names and undocumented operators.

Invariant: no other module names them; they import from here, and a test says which of them a new torch has changed. It
also looks at what is as little promised and not here, because layers are made of it: the dictionaries of
`torch.nn.Module` (`_parameters`, `_buffers`, `_modules` and those of hooks).
"""

from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from operator import attrgetter, methodcaller
from types import FrameType
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.autograd.function import BackwardCFunction
from torch.compiler import is_dynamo_compiling
from torch.jit._trace import is_tracing
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd
from torch.nn.modules.instancenorm import _InstanceNorm
from torch.nn.modules.module import _WrappedHook
from torch.nn.utils.parametrizations import _WeightNorm

__all__ = [
    "BACKWARDS",
    "ENGINE",
    "UNPACKS",
    "AnyBatchNorm",
    "AnyConv",
    "AnyInstanceNorm",
    "AnyTransposedConv",
    "HookWithModule",
    "TorchWeightNorm",
    "autograd_node",
    "batch_norm_backward",
    "batch_norm_in",
    "batch_statistics",
    "checkpoint_that_repeats",
    "checkpoints_at_first",
    "clamp_max_all_",
    "clamp_min_all_",
    "cudnn_enabled",
    "cudnn_flag",
    "dispatch_modes",
    "divide_all_",
    "doubled_products_in",
    "forward_mode",
    "graph_task",
    "is_stack_of_gradients",
    "is_tracing",
    "is_undisturbed",
    "multiply_all_",
    "native_batch_norm",
    "output_hook",
    "process_group",
    "saves_elsewhere",
    "squared_distances_in",
    "transform",
]

AnyBatchNorm = _BatchNorm
AnyConv = _ConvNd
AnyInstanceNorm = _InstanceNorm
AnyTransposedConv = _ConvTransposeNd
HookWithModule = _WrappedHook
"""How a module keeps a hook that wants the module as an argument."""
TorchWeightNorm = _WeightNorm

batch_norm_backward = torch.ops.aten.native_batch_norm_backward
clamp_max_all_ = torch._foreach_clamp_max_
clamp_min_all_ = torch._foreach_clamp_min_
divide_all_ = torch._foreach_div_
multiply_all_ = torch._foreach_mul_
native_batch_norm = torch.native_batch_norm
"""What `torch.batch_norm` calls on CPUs after it has asked for the sizes of the vectors: this does not, and would read
on behind their ends. It gives three tensors, of which the first is the output."""
autograd_node = torch._C._current_autograd_node
"""The node of the graph whose backward pass is running; None outside of one."""
cudnn_flag = torch._C._get_cudnn_enabled
"""`cudnn_enabled`, where nothing is compiled."""
dispatch_modes = torch._C._len_torch_dispatch_stack
"""How many modes see each operation: what traces a program by its operations is one."""
graph_task = torch._C._current_graph_task_id
"""The number of the backward pass that is running; -1 outside of one."""
process_group: Callable[[], Any] = (
    partial(attrgetter("_world.default_pg"), torch.distributed.distributed_c10d)
    if torch.distributed.is_available()
    else lambda: None
)
"""That of all processes; None where `torch.distributed` is not initialized. With one function between, and not four."""
_tracing_state = torch._C._get_tracing_state
transform = torch._C._functorch.peek_interpreter_stack
"""The innermost transform of `torch.func` that is running; None outside of one."""

ENGINE = "torch.autograd.graph"
"""The module that starts the engine. On CPUs it calls back in the same thread, whose stack goes on below."""
BACKWARDS = tuple(getattr(BackwardCFunction, name).__code__ for name in ("apply", "apply_boxed"))
"""What the engine calls of a function that is written in Python; of a compiled one, the latter."""
UNPACKS = ("torch.utils.checkpoint", "unpack_hook")
"""Module and name of what brings back tensors that checkpointing did not save."""


def cudnn_enabled() -> bool:
    """`torch.backends.cudnn.enabled`, at half of what that costs; the compiler knows that one alone."""
    if torch.compiler.is_compiling():
        return torch.backends.cudnn.enabled
    return cudnn_flag()


def batch_norm_in(
    memory: Tensor,
    mean: Tensor,
    inverse_sigma: Tensor,
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    running_mean: Tensor,
    running_var: Tensor,
    momentum: float,
    eps: float,
) -> None:
    """Batch norm of (N, C, ...) in training, into `memory`, and what its backward pass needs into vectors (C,).

    It moves the running statistics (C,).
    """
    torch.ops.aten.native_batch_norm.out(
        x,
        weight,
        bias,
        running_mean,
        running_var,
        True,
        momentum,
        eps,
        out=memory,
        save_mean=mean,
        save_invstd=inverse_sigma,
    )


def squared_distances_in(memory: Tensor, x: Tensor, y: Tensor) -> None:
    """`memory[:] = (x - y)^2` in one pass: torch's loss without its warning that shapes differ."""
    torch.ops.aten.mse_loss.out(x, y, 0, out=memory)


def doubled_products_in(memory: Tensor, factor: Tensor, x: Tensor, y: Tensor) -> None:
    """`memory[:] = 2 * factor * (x - y)` in one pass: what the gradient of torch's loss is made of."""
    torch.ops.aten.mse_loss_backward.grad_input(factor, x, y, 0, grad_input=memory)


def batch_statistics(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and biased variance (C,) of (N, C), which lie in rows, by the kernel of batch norm alone."""
    mean, var = torch.batch_norm_update_stats(x, None, None, 0.0)
    return mean, var


def forward_mode() -> bool:
    """Whether forward-mode differentiation is on."""
    return forward_ad._current_level >= 0


def is_stack_of_gradients(tensor: Tensor) -> bool:
    """Whether it is what `is_grads_batched=True` or a transform hands to a backward pass."""
    functorch = torch._C._functorch
    return functorch.is_legacy_batchedtensor(tensor) or functorch.is_functorch_wrapped_tensor(tensor)


def output_hook(hook: Callable[[Tensor], None]) -> Callable[[Any], None]:
    """A function of a node that does `y.register_hook(hook)` for its first output `y`, at a fraction of the cost.

    There is no handle, and `y` knows nothing of it: it takes other hooks, and is saved, as any tensor.
    """
    carrier = torch.empty(0, device="cpu")
    carrier._backward_hooks = OrderedDict(((-1, hook),))
    return methodcaller("_register_hook_dict", carrier)


def is_undisturbed(x: Any) -> bool:
    """Whether `x` is a plain tensor with numbers, and operations on it are run by torch and autograd alone.

    That is, no compiler, tracer, transform of `torch.func` or forward-mode differentiation takes part, all of which a
    layer else asks for one by one. No subclass of Tensor is plain, and no parameter; programs are exported by such.
    It is asked in every call, of which it is a part where the input is small: even to find a function in `torch`, whose
    dictionary is in no cache, takes as long as to call it.
    """
    return (
        type(x) is Tensor
        and not is_dynamo_compiling()
        and _tracing_state() is None
        and forward_ad._current_level < 0
        and transform() is None
        and not x.is_meta
    )


def saves_elsewhere() -> bool:
    """Whether hooks get the tensors that are saved for the backward pass."""
    return torch._C._autograd._top_saved_tensors_default_hooks(True) is not None


def checkpoints_at_first(frame: FrameType | None) -> list[Any]:
    """What this may be the first run of: contexts of functions, from the innermost, and checkpointing's own record.

    In a run that repeats, those within it.
    """
    found = []
    while frame is not None and not _repeats(frame):
        if frame.f_code.co_varnames[:1] == ("ctx",) and isinstance(frame.f_locals["ctx"], BackwardCFunction):
            found.append(frame.f_locals["ctx"])
        frame = frame.f_back
    if frame is not None and frame.f_code in BACKWARDS:
        found = [one for one in found if one is not frame.f_locals["self"]]
    hooks = torch._C._autograd._top_saved_tensors_default_hooks(True)
    if hooks is not None and getattr(hooks[0], "__module__", None) == UNPACKS[0]:
        names, cells = hooks[0].__code__.co_freevars, hooks[0].__closure__ or ()
        found += [cell.cell_contents for name, cell in zip(names, cells, strict=True) if name == "frame"]
    return found


def checkpoint_that_repeats(frame: FrameType | None) -> Any:
    """What `checkpoint_at_first` found in the run that this one repeats; None where nothing repeats or is not known.

    The engine of the backward pass calls Python for the backward pass of a function (checkpointing with
    `use_reentrant=True`, and what others write like it), for tensors that were saved as something else (with False),
    and for hooks. Nothing but the stack tells which.
    """
    while frame is not None and not _repeats(frame):
        if frame.f_globals.get("__name__") == ENGINE:
            return None
        frame = frame.f_back
    if frame is None:
        return None
    return frame.f_locals["self" if frame.f_code in BACKWARDS else "frame"]


def _repeats(frame: FrameType) -> bool:
    """Whether the engine of a backward pass has called this, which may run a forward pass again."""
    return frame.f_code in BACKWARDS or (frame.f_globals.get("__name__"), frame.f_code.co_name) == UNPACKS
