"""Modules and buffers are found as torch finds them, whatever is shared, empty or not there."""

from torch import nn

from bncore.norm.model.feed import evaluation_mode
from bncore.norm.model.parts import buffers_of, modules_of


class Said(nn.Module):
    """Hears of every change of its mode, as a module with a setter of its own does."""

    def __init__(self) -> None:
        super().__init__()
        self.heard: list[bool] = []

    def __setattr__(self, name: str, value: object) -> None:
        if name == "training" and "heard" in vars(self):
            self.heard.append(bool(value))
        super().__setattr__(name, value)


def network() -> nn.Module:
    shared = nn.BatchNorm1d(3)
    inner = nn.Sequential(nn.Linear(3, 3), shared, nn.Sequential())
    inner.register_module("nothing", None)
    found = nn.Sequential(inner, shared, nn.ModuleDict({"b": inner, "a": nn.BatchNorm1d(3)}), Said())
    found.register_buffer("again", shared.running_mean)
    found.register_buffer("none", None)
    return found


def test_modules_and_buffers_are_those_of_torch_in_its_order() -> None:
    model = network()
    assert modules_of(model) == [*model.modules()]
    assert {id(one) for one in buffers_of(model)} == {id(one) for one in model.buffers()}
    assert len(buffers_of(model)) == len([*model.buffers()])


def test_modes_are_what_they_were_and_whoever_hears_of_them_does() -> None:
    model = network()
    model[2].a.eval()  # type: ignore[union-attr, operator]
    before = [module.training for module in model.modules()]
    with evaluation_mode(model):
        assert not any(module.training for module in model.modules())
        with evaluation_mode(model):
            assert not model.training
    assert [module.training for module in model.modules()] == before
    assert model[3].heard == [False, True]  # type: ignore[index]


class Property(nn.Module):
    """Hears of it by a property, which keeps it where torch does."""

    def __init__(self) -> None:
        super().__init__()
        self.heard: list[bool] = []

    @property
    def training(self) -> bool:
        return bool(vars(self)["training"])

    @training.setter
    def training(self, mode: bool) -> None:
        vars(self)["training"] = mode
        vars(self).setdefault("heard", []).append(mode)


def test_a_property_hears_of_the_mode() -> None:
    model = nn.Sequential(Property())
    with evaluation_mode(model):
        assert not model[0].training
    assert model[0].training
    assert model[0].heard == [False, True]


class Alike(nn.BatchNorm1d):
    """Equal to every other of its class."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Alike)

    def __hash__(self) -> int:
        return 0


def test_modules_that_call_themselves_equal_are_two() -> None:
    model = nn.Sequential(Alike(3), Alike(3))
    assert len(modules_of(model)) == 3
    assert len(buffers_of(model)) == 6
    with evaluation_mode(model):
        assert not any(layer.training for layer in model)
    assert all(layer.training for layer in model)
