"""The processes that share a batch in `test_sync_batch_norm.py`: one import, then one fork a process.

Run with a directory, it starts the groups in `SPLITS` and leaves what each process computed in `<size>-<rank>.pt`: a
scenario's name, and tensors by name. Data come from seeds, so that the test makes the same batch, whole.
"""

import copy
import multiprocessing
import os
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.checkpoint import checkpoint

from bncore.norm.batch_norm import BatchNorm
from bncore.norm.sync_batch_norm import SyncBatchNorm
from tests.bncore.norm.case import sample

Found = dict[str, Tensor]
SPLITS: dict[int, dict[str, tuple[int, ...]]] = {
    1: {"alone": (6,)},
    2: {"even": (4, 4), "uneven": (7, 1), "last empty": (6, 0), "first empty": (0, 6), "one value each": (1, 1)},
    3: {"uneven": (5, 1, 2), "one empty": (3, 0, 4), "all on one": (0, 6, 0), "one value on two": (1, 0, 1)},
}
"""Examples of each process, by the number of processes."""
OPTIONS: dict[str, dict[str, object]] = {"cumulative": {"momentum": None}, "no affine": {"affine": False}}


def batch(split: str, examples: int, seed: int = 1) -> Tensor:
    """The whole batch (N, 4, ...); one value each leaves no room for positions."""
    return sample((examples, 4) if split.startswith("one value") else (examples, 4, 3, 2), seed)


def layer_of(options: dict[str, object] | None = None) -> SyncBatchNorm:
    """A layer in double precision that has no parameter or statistic at a value that hides a mistake."""
    layer = SyncBatchNorm(4, **(options or {})).double()
    with torch.no_grad():
        for index, tensor in enumerate([*layer.parameters(), layer.running_mean, layer.running_var]):
            tensor.add_(0.3 * sample((4,), seed=index).abs())
    return layer


def objective(y: Tensor, weights: Tensor) -> Tensor:
    """A sum over the batch, so that the sum over processes is that of the whole batch."""
    return (y.sin() * weights).sum()


def second_objective(gradients: tuple[Tensor, ...]) -> Tensor:
    """As `objective`, of gradients; linear in those of the parameters, of which each process has a part."""
    into_x, *into_parameters = gradients
    linear = [(sample((4,), seed=5 + index) * grad).sum() for index, grad in enumerate(into_parameters)]
    return into_x.cos().sum() + sum(linear)


class Share:
    """What this process has of a batch that the group shares in unequal parts."""

    def __init__(self, rank: int, sizes: tuple[int, ...]) -> None:
        start = sum(sizes[:rank])
        self.rank, self.sizes, self.own = rank, sizes, slice(start, start + sizes[rank])

    def of(self, whole: Tensor) -> Tensor:
        return whole[self.own].clone()


def derivatives(rank: int, split: str, sizes: tuple[int, ...], options: dict[str, object] | None = None) -> Found:
    """Two steps; outputs, gradients of both backward passes, second derivatives, statistics."""
    share, layer, examples = Share(rank, sizes), layer_of(options), sum(sizes)
    layer(share.of(batch(split, examples, seed=2)))
    whole = batch(split, examples)
    x, weights = share.of(whole).requires_grad_(), share.of(sample(tuple(whole.shape), seed=3))
    inputs = [x, *layer.parameters()]
    y = layer(x)
    statistics = {name: value.clone() for name, value in layer.named_buffers()}
    plain = torch.autograd.grad(objective(y, weights), inputs, retain_graph=True)
    first = torch.autograd.grad(objective(y, weights), inputs, create_graph=True)
    second = torch.autograd.grad(second_objective(first), inputs, allow_unused=True, materialize_grads=True)
    named = {"y": y, **statistics}
    for order, tensors in (("plain", plain), ("first", first), ("second", second)):
        named |= {f"{order}.{name}": tensor for name, tensor in zip(("x", "weight", "bias"), tensors, strict=False)}
    return named


def in_steps(rank: int, world: int, how: str) -> Found:
    """Two micro-batches: one backward pass each, or both forward passes first, or recomputed."""
    layer, sizes = layer_of(), SPLITS[world]["uneven"]
    share, pending, inputs = Share(rank, sizes), [], []
    for seed in (1, 2):
        x = share.of(batch("", sum(sizes), seed)).requires_grad_()
        again = {"reentrant": True, "not reentrant": False}
        y = checkpoint(layer, x, use_reentrant=again[how]) if how in again else layer(x)
        loss = y.sin().sum()
        if how == "one by one":
            loss.backward()
        inputs.append(x)
        pending.append(loss)
    if how != "one by one":
        sum(pending).backward()
    gradients = {f"{index}": tensor.grad for index, tensor in enumerate([*inputs, *layer.parameters()])}
    return gradients | dict(layer.named_buffers())


def spoilt(rank: int, world: int) -> Found:
    """A NaN in one process, with the guard on."""
    layer, x = layer_of({"nan_guard": True}), batch("", 3, seed=rank)
    layer(x)
    x[:, 1] = float("nan") if rank == 0 else 0.0
    layer(x)
    return dict(layer.named_buffers())


def too_few(rank: int, world: int) -> Found:
    """One value in all processes together is refused by all of them; none is no batch. Then they go on."""
    layer, before = layer_of(), layer_of()
    try:
        layer(torch.ones(1 if rank == 0 else 0, 4, dtype=torch.float64))
        refused = False
    except ValueError as error:
        refused = "Expected more than 1 value per channel" in str(error)
    unchanged = all(torch.equal(value, before.state_dict()[name]) for name, value in layer.state_dict().items())
    empty = torch.zeros(0, 4, dtype=torch.float64, requires_grad=True)
    layer(empty).sum().backward()
    moved = not torch.equal(layer.running_mean, before.running_mean)
    y = layer(batch("", 2, seed=rank))
    return {"refused": torch.tensor([refused, unchanged, moved, bool(y.isfinite().all())])}


def narrow(rank: int, world: int) -> Found:
    """bfloat16 input, single-precision parameters, channels last."""
    layer, sizes = layer_of().float(), SPLITS[world]["uneven"]
    x = Share(rank, sizes).of(batch("", sum(sizes)).bfloat16()).to(memory_format=torch.channels_last).requires_grad_()
    y = layer(x)
    y.float().sin().sum().backward()
    kept = y.is_contiguous(memory_format=torch.channels_last)
    return {"y": y, "x": x.grad, "weight": layer.weight.grad, "kept": torch.tensor(kept), **dict(layer.named_buffers())}


def far_from_zero(rank: int, world: int) -> Found:
    """A mean of a million standard deviations in single precision."""
    x = (batch("", 32 * world) + 1.7e6).float()
    return {"y": layer_of().float()(x[32 * rank : 32 * (rank + 1)])}


def transformed(rank: int, world: int) -> Found:
    """Under `torch.func`: a third derivative, forward mode, an ensemble."""
    sizes = SPLITS[world]["uneven"]
    whole = batch("one value", sum(sizes))
    x, direction = Share(rank, sizes).of(whole), Share(rank, sizes).of(sample(tuple(whole.shape), seed=4))
    layer = layer_of()
    state = {name: value.detach().clone() for name, value in layer.state_dict().items()}

    def run(t: Tensor) -> Tensor:
        fresh = {name: value.clone() for name, value in state.items()}
        return torch.func.functional_call(layer, fresh, (x + t * direction,))

    zero = torch.zeros((), dtype=torch.float64)
    third = torch.func.grad(torch.func.grad(torch.func.grad(lambda t: run(t).sin().sum())))(zero)
    _, slope = torch.func.jvp(run, (zero,), (torch.ones_like(zero),))
    stacked = {name: torch.stack((value, value)) for name, value in state.items()}
    ensemble = torch.func.vmap(lambda state, x: torch.func.functional_call(layer, state, (x,)))
    y = ensemble(stacked, torch.stack((x, 3 * x)))
    return {"third": third, "slope": slope, "ensemble": y, "running_var": stacked["running_var"]}


def parallel(rank: int, world: int) -> Found:
    """A network in `DistributedDataParallel`: two forward passes, then one backward pass."""
    network = network_of()
    copies = DistributedDataParallel(network)
    share = Share(rank, SPLITS[world]["uneven"])
    losses = [copies(share.of(sample((8, 3), seed))).sin().sum() for seed in (1, 2)]
    # It averages gradients over processes; the objective is the sum.
    (world * sum(losses)).backward()
    return {name: parameter.grad for name, parameter in network.named_parameters()} | dict(network.named_buffers())


def plain_parallel(rank: int, world: int) -> Found:
    """Plain batch norm in `DistributedDataParallel`, its buffers written between two forward passes, as that may do."""
    network = plain_network()
    copies = DistributedDataParallel(network)
    first = copies(sample((4, 3), rank)).sin().sum()
    for buffer in network.buffers():
        dist.broadcast(buffer, 0)
        buffer.mul_(1)
    (first + copies(sample((4, 3), 10 + rank)).sin().sum()).backward()
    return {name: parameter.grad for name, parameter in network.named_parameters()}


def plain_network() -> nn.Module:
    """A network with batch norm that knows nothing of processes."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), BatchNorm(4), nn.Linear(4, 2)).double()


def network_of() -> nn.Module:
    """A network with the layer inside."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), SyncBatchNorm(4), nn.Tanh(), nn.Linear(4, 2), SyncBatchNorm(2)).double()


def compiled(rank: int, world: int) -> Found:
    """A compiled network: the layer stays outside of the graphs."""
    network = network_of()
    x = Share(rank, SPLITS[world]["uneven"]).of(sample((8, 3), seed=1))
    torch.compile(network, backend="aot_eager")(x).sin().sum().backward()
    return {name: parameter.grad for name, parameter in network.named_parameters()} | dict(network.named_buffers())


def exported(rank: int, world: int) -> Found:
    """In training; the program would hold what the other processes said while it was made."""
    try:
        torch.export.export(layer_of(), (batch("", 3, seed=rank),))
        refused = False
    except RuntimeError as error:
        refused = "export it in evaluation mode" in str(error)
    torch.export.export(layer_of().eval(), (batch("", 3, seed=rank),))
    return {"refused": torch.tensor(refused)}


def in_part(rank: int, world: int) -> Found:
    """A group of the first and the last process; the one in between has its batch for itself. Then a copy."""
    layer = layer_of({"process_group": dist.new_group([0, world - 1])})
    copied, x = copy.deepcopy(layer), batch("", 3, seed=rank)
    return {"y": layer(x), "copy": copied(x)}


def evaluated_alone(rank: int, world: int) -> Found:
    """Evaluation in one process only, and training in one process without a group of several: nobody is waited for."""
    y = layer_of().eval()(batch("", 3)) if rank == 0 else torch.zeros(())
    return {"y": y}


def scenarios(rank: int, world: int) -> dict[str, Callable[[], Found]]:
    """All that a group of this size does, in this order."""
    found: dict[str, Callable[[], Found]] = {
        split: lambda split=split, sizes=sizes: derivatives(rank, split, sizes)
        for split, sizes in SPLITS[world].items()
    }
    if world == 1:
        return found
    for name, options in OPTIONS.items():
        found[name] = lambda options=options: derivatives(rank, "uneven", SPLITS[world]["uneven"], options)
    for how in ("one by one", "at once", "reentrant", "not reentrant"):
        found[how] = lambda how=how: in_steps(rank, world, how)
    every = [spoilt, too_few, narrow, far_from_zero, transformed, evaluated_alone]
    for scenario in (*every, *((parallel, plain_parallel, compiled, exported) if world == 2 else (in_part,))):
        found[scenario.__name__] = lambda scenario=scenario: scenario(rank, world)
    return found


def rank_main(rank: int, world: int, directory: Path) -> None:
    """One process of a group."""
    torch.set_num_threads(1)
    store = f"file://{directory / f'store-{world}'}"
    dist.init_process_group("gloo", init_method=store, rank=rank, world_size=world, timeout=timedelta(seconds=400))
    results = {
        name: {key: value.detach() for key, value in scenario().items()}
        for name, scenario in scenarios(rank, world).items()
    }
    torch.save(results, directory / f"{world}-{rank}.pt")
    dist.destroy_process_group()


def main(directory: Path) -> None:
    """Every group, one after the other; the exit status says whether all processes came to their end."""
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    fork = multiprocessing.get_context("fork")
    for world in SPLITS:
        group = [fork.Process(target=rank_main, args=(rank, world, directory)) for rank in range(world)]
        for process in group:
            process.start()
        for process in group:
            process.join()
        if any(process.exitcode for process in group):
            sys.exit(f"of {world} processes, not all came to their end")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
