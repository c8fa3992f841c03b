"""What torch's `update_bn` leaves as it was, of all layers with running statistics: the pages say it, and no more."""

import copy
import inspect
import re
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn

import bncore.recurrent as recurrent
from bncore.norm import BatchNorm, FrozenBatchNorm, recalibrate
from bncore.norm.model.found import layer_classes
from tests.bncore.norm.case import cases, sample

PAGES = Path(__file__).parents[3] / "docs" / "norms"
SAYS_SO = "`torch.optim.swa_utils.update_bn` passes the layer over"


def models() -> list[tuple[nn.Module, tuple[int, ...]]]:
    """Every layer of ours and of torch that normalizes, and the shape of its batches."""
    found: list[tuple[nn.Module, tuple[int, ...]]] = [(case.make().double(), case.shape) for case in cases()]
    for cls in layer_classes():
        if "track_running_stats" in inspect.signature(cls).parameters and cls.__module__.startswith("torch."):
            axes = next((int(digit) for digit in re.findall(r"(\d)d$", cls.__name__)), 1)
            found.append((cls(4, track_running_stats=True).double(), (6, 4, *(3,) * axes)))
    for name in recurrent.__all__:
        # Cells and norms of steps take a step beside the batch; they are in the layers.
        if not name.endswith("Cell") and name != "StepBatchNorm":
            cls = getattr(recurrent, name)
            sizes = [4] if "num_features" in inspect.signature(cls).parameters else [4, 4]
            found.append((cls(*sizes).double(), (5, 6, 4)))
    return found


def averages(model: nn.Module) -> dict[type[nn.Module], list[Tensor]]:
    """The running statistics in a model, by the class of layer that keeps them."""
    found: dict[type[nn.Module], list[Tensor]] = {}
    for module in model.modules():
        own = [buffer for name, buffer in module.named_buffers(recurse=False) if name.startswith("running_")]
        if own:
            found.setdefault(type(module), []).extend(own)
    return found


def started_at(model: nn.Module, value: float) -> nn.Module:
    """A copy in training mode with this in all running statistics."""
    other = copy.deepcopy(model).train()
    for tensors in averages(other).values():
        for tensor in tensors:
            tensor.fill_(value)
    return other


def data_of(shape: tuple[int, ...]) -> list[Tensor]:
    return [sample(shape, seed) for seed in range(3)]


def passed_over() -> dict[type[nn.Module], tuple[nn.Module, tuple[int, ...]]]:
    """The classes of layers that keep what they start with in `update_bn`, each with a model that has one.

    Of all others, what they end with does not depend on it.
    """
    found: dict[type[nn.Module], tuple[nn.Module, tuple[int, ...]]] = {}
    for model, shape in models():
        twins = [started_at(model, value) for value in (2.0, 3.0)]
        for twin in twins:
            update_bn(data_of(shape), twin)
        first, second = (averages(twin) for twin in twins)
        for cls, tensors in first.items():
            if all(torch.equal(tensor, torch.full_like(tensor, 2.0)) for tensor in tensors):
                found[cls] = (model, shape)
            else:
                torch.testing.assert_close(tensors, second[cls], msg=f"{cls.__name__} is renewed in part")
    return found


def public(cls: type[nn.Module]) -> str:
    """How a sentence calls it."""
    return re.sub(r"\dd$", "*", f"torch.nn.{cls.__name__}" if cls.__module__.startswith("torch.") else cls.__name__)


@pytest.fixture(scope="module")
def left() -> dict[type[nn.Module], tuple[nn.Module, tuple[int, ...]]]:
    return passed_over()


def with_such(left: dict) -> set[type[nn.Module]]:
    """The layers that are passed over, and those of ours that are made of them; frozen ones are not to be renewed."""
    inside = set(left) - {FrozenBatchNorm}
    return inside | {type(model) for model, _ in models() if inside & set(averages(model))}


def test_recalibrate_names_the_layers_that_update_bn_passes_over_and_no_others(left) -> None:
    text = " ".join((recalibrate.__doc__ or "").split())
    (sentence,) = re.findall(r"passes over every layer.*?without a word: (.*?)\. [A-Z]", text)
    assert set(re.findall(r"`([^`]+)`", sentence)) == {public(cls) for cls in with_such(left)}


def test_each_of_them_says_so_itself_and_on_its_page(left) -> None:
    ours = {cls for cls in with_such(left) if cls.__module__.startswith("bncore.")}
    for cls in ours:
        assert SAYS_SO in " ".join((cls.__doc__ or "").split()), cls
    pages = {page.stem: " ".join(page.read_text().split()) for page in PAGES.glob("*.md")}
    of_them = {stem for stem, text in pages.items() if any(f".{cls.__name__}`. [All" in text for cls in ours)}
    assert {stem for stem, text in pages.items() if SAYS_SO in text} == of_them
    assert len(of_them) == len(ours - {recurrent.StepBatchNorm}), "that one is a part of others, and has no page"


def evaluated(model: nn.Module, shape: tuple[int, ...]) -> Tensor:
    y = model.eval()(sample(shape, 9))
    return (y[0] if isinstance(y, tuple) else y).detach()


def test_recalibrate_renews_them_whatever_they_had(left) -> None:
    for cls, (model, shape) in left.items():
        twins = [started_at(model, value) for value in (2.0, 3.0)]
        before = [evaluated(twin, shape) for twin in twins]
        after = [evaluated(recalibrate(twin, data_of(shape)), shape) for twin in twins]
        assert not torch.allclose(*before), cls
        if cls is FrozenBatchNorm:
            torch.testing.assert_close(after, before, rtol=0, atol=0)
        else:
            torch.testing.assert_close(*after, rtol=1e-12, atol=1e-12, msg=cls.__name__)
            assert not torch.allclose(after[0], before[0]), cls


def test_beside_a_layer_that_is_renewed_they_move_on_from_what_they_had_as_in_training(left) -> None:
    seen = 0
    for cls, (model, shape) in left.items():
        if cls is FrozenBatchNorm or type(model) is not cls:
            continue
        ends = []
        for value in (2.0, 3.0):
            alone, beside = (started_at(model, value) for _ in range(2))
            update_bn(data_of(shape), nn.Sequential(BatchNorm(4).double(), beside))
            for x in data_of(shape):
                alone(BatchNorm(4).double()(x).detach())
            torch.testing.assert_close(averages(beside), averages(alone), rtol=1e-12, atol=1e-12)
            ends.append(evaluated(beside, shape))
        assert not torch.allclose(*ends), cls
        seen += 1
    assert seen >= 2
