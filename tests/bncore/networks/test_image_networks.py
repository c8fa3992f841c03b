"""Networks of images are those of their papers: parameters counted by formulas, outputs by modules made by hand."""

import re

import pytest
import torch
from pydantic import TypeAdapter
from torch import Tensor, nn

from bncore.networks import build_network
from bncore.spec import NetworkSpec, SpecError, load_spec
from bncore.spec.blueprint import Laid, Signal, lay
from tests.bncore.networks import by_hand

CIFAR, IMAGENET, DIGITS = (3, 32, 32), (3, 224, 224), (1, 8, 8)


def spec_of(**network: object) -> NetworkSpec:
    return TypeAdapter(NetworkSpec).validate_python(network)


def laid(shape: tuple[int, ...], classes: int, **network: object) -> Laid:
    signal = Signal(shape, "image")
    return lay(spec_of(**network).blueprint(signal, classes), signal, "/network")


def cifar_resnet(depth: int, *, channels: int = 3) -> int:
    """Convolutions k k in out, a scale and a shift for each of their outputs, the last layer (shortcut A)."""
    n, widths = (depth - 2) // 6, (16, 32, 64)
    total = channels * 16 * 9 + 2 * 16
    for before, width in zip((16, 16, 32), widths, strict=True):
        total += before * width * 9 + (2 * n - 1) * width * width * 9 + 2 * n * 2 * width
    return total + 64 * 10 + 10


def resnet_164() -> int:
    """Pre-activation: a scale and a shift for each input of a convolution, the first excepted, and behind the end."""
    total, before = 27 * 16 + 2 * 16, 16
    for stage, width in enumerate((16, 32, 64)):
        for number in range(18):
            end = 4 * width
            total += before * width + 9 * width * width + width * end + 2 * width + 2 * width
            total += 2 * before if number or stage else 0
            total += before * end if number == 0 else 0
            before = end
    return total + 2 * before + before * 10 + 10


def imagenet_resnet(blocks: tuple[int, ...], *, bottleneck: bool) -> int:
    total, before = 3 * 64 * 49 + 128, 64
    for count, width in zip(blocks, (64, 128, 256, 512), strict=True):
        end = 4 * width if bottleneck else width
        for number in range(count):
            shapes = [(before, width, 9), (width, width, 9)]
            if bottleneck:
                shapes = [(before, width, 1), (width, width, 9), (width, end, 1)]
            if number == 0 and before != end:
                shapes.append((before, end, 1))
            total += sum(size * a * b + 2 * b for a, b, size in shapes)
            before = end
    return total + before * 1000 + 1000


def vgg16(classes: int) -> int:
    widths = [64, 64, 128, 128, 256, 256, 256, *[512] * 6]
    pairs = zip([3, *widths], widths, strict=False)
    return sum(9 * a * b + 2 * b for a, b in pairs) + 512 * classes + classes


def mobilenet_v2() -> int:
    total, before = 27 * 32 + 64, 32
    for t, c, n in [(1, 16, 1), (6, 24, 2), (6, 32, 3), (6, 64, 4), (6, 96, 3), (6, 160, 3), (6, 320, 1)]:
        for _ in range(n):
            wide = t * before
            total += (before * wide + 2 * wide if t > 1 else 0) + 9 * wide + 2 * wide + wide * c + 2 * c
            before = c
    return total + 320 * 1280 + 2 * 1280 + 1280 * 1000 + 1000


@pytest.mark.parametrize(
    ("network", "shape", "classes", "formula", "published"),
    [
        ({"kind": "resnet", "depth": 20}, CIFAR, 10, cifar_resnet(20), 0.27e6),
        ({"kind": "resnet", "depth": 56}, CIFAR, 10, cifar_resnet(56), 0.85e6),
        ({"kind": "resnet", "depth": 110}, CIFAR, 10, cifar_resnet(110), 1.7e6),
        ({"kind": "resnet", "depth": 18}, IMAGENET, 1000, imagenet_resnet((2, 2, 2, 2), bottleneck=False), 11_689_512),
        ({"kind": "resnet", "depth": 50}, IMAGENET, 1000, imagenet_resnet((3, 4, 6, 3), bottleneck=True), 25_557_032),
        ({"kind": "resnet_v2", "depth": 110}, CIFAR, 10, cifar_resnet(110), 1.7e6),
        ({"kind": "resnet_v2", "depth": 164, "block": "bottleneck"}, CIFAR, 10, resnet_164(), 1.7e6),
        ({"kind": "vgg", "depth": 16}, CIFAR, 10, vgg16(10), 14.7e6),
        ({"kind": "vgg", "head": [4096, 4096], "norm": {"kind": "none"}}, IMAGENET, 1000, None, 138_357_544),
        ({"kind": "depthwise"}, IMAGENET, 1000, mobilenet_v2(), 3_504_872),
    ],
    ids=str,
)
def test_parameters_are_as_many_as_in_the_paper(
    network: dict[str, object], shape: tuple[int, ...], classes: int, formula: int | None, published: float
) -> None:
    found = laid(shape, classes, **network)
    assert found.faults == ()
    assert found.parameters == (formula or found.parameters)
    # Papers round to two figures or three; whole numbers are those of torchvision's models.
    assert found.parameters == pytest.approx(published, rel=0 if isinstance(published, int) else 0.02, abs=0)


def compared(network: dict[str, object], shape: tuple[int, ...], twin: nn.Module, names: list[tuple[str, str]]) -> None:
    """Outputs in training, statistics after it and outputs in evaluation are those of the module made by hand."""

    def name(key: str) -> str:
        for pattern, other in names:
            key = re.sub(pattern, other, key)
        # Numbers of ours count from 1.
        return re.sub(r"#(\d+)", lambda found: str(int(found[1]) - 1), key)

    generator = torch.Generator().manual_seed(4)
    built = build_network(spec_of(**network), shape, 10, seed=5).double()
    with torch.no_grad():
        for parameter in built.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    twin.double().load_state_dict(by_hand.renamed(built.state_dict(), name), strict=True)
    x = torch.randn(4, *shape, generator=generator, dtype=torch.float64)
    torch.testing.assert_close(built(x), twin(x))
    for key, value in by_hand.renamed(built.state_dict(), name).items():
        torch.testing.assert_close(value, twin.state_dict()[key])
    torch.testing.assert_close(built.eval()(x), twin.eval()(x))


STAGED = [
    (r"^stem\.", ""),
    (r"^last\.norm\.", "last."),
    (r"^stage(\d+)\.block(\d+)\.", r"stages.#\1.#\2."),
    (r"(residual\.)?body\.", ""),
    (r"residual\.shortcut\.conv\.", "project."),
    (r"residual\.shortcut\.norm\.", "project_norm."),
    (r"(conv|norm)(\d+)\.", r"\1s.#\2."),
]


@pytest.mark.parametrize(
    ("network", "blocks", "kind", "shortcut", "is_large"),
    [
        ({"kind": "resnet", "depth": 14}, (2, 2, 2), "basic", "A", False),
        ({"kind": "resnet", "depth": 8, "shortcut": "B", "stem": "large"}, (1, 1, 1), "basic", "B", True),
        ({"kind": "resnet", "depth": 18, "width": 4, "shortcut": "A"}, (2, 2, 2, 2), "basic", "A", False),
        ({"kind": "resnet", "depth": 50, "width": 4, "stem": "large"}, (3, 4, 6, 3), "bottleneck", "B", True),
        ({"kind": "resnet_v2", "depth": 14}, (2, 2, 2), "basic v2", "A", False),
        ({"kind": "resnet_v2", "depth": 20, "block": "bottleneck"}, (2, 2, 2), "bottleneck v2", "B", False),
    ],
    ids=str,
)
def test_a_residual_network_is_the_papers(
    network: dict[str, object], blocks: tuple[int, ...], kind: str, shortcut: str, is_large: bool
) -> None:
    shape, width = (2, 33, 30) if is_large else (2, 9, 8), int(network.get("width", 16))  # type: ignore[call-overload]
    twin = by_hand.ResNet(2, 10, blocks, width, kind, shortcut, is_large)
    compared(network, shape, twin, STAGED)


@pytest.mark.parametrize("stem", ["small", "large"])
def test_depthwise_is_mobilenet_v2(stem: str) -> None:
    widths = (8, 8, 8, 8, 16, 24, 40, 80, 1280)
    twin = by_hand.MobileNetV2(2, 10, widths, small=stem == "small")
    names = [(r"^last\.conv\.", "last."), (r"^last\.norm\.", "last_norm."), *STAGED]
    network = {"kind": "depthwise", "width_multiplier": 0.25, "stem": stem}
    compared(network, (2, 9, 12) if stem == "small" else (2, 34, 33), twin, names)


@pytest.mark.parametrize("head", [(), (6, 5)], ids=str)
def test_vgg_is_the_papers(head: tuple[int, ...]) -> None:
    layers = [4, "M", 8, "M", 16, 16, "M", 32, 32, 32, 32]
    twin = by_hand.Vgg(2, 10, layers, head)
    shape = (2, 8, 8) if head else (2, 19, 17)
    numbers = {(1, 1): 0, (2, 1): 1, (3, 1): 2, (3, 2): 3, (4, 1): 4, (4, 2): 5, (5, 1): 6, (5, 2): 7}
    names = [(rf"^stage{stage}\.(conv|norm){number}\.", rf"\1s.{place}.") for (stage, number), place in numbers.items()]
    names += [(r"^head\.linear(\d)\.", r"linears.#\1."), (r"^head\.norm(\d)\.", r"linear_norms.#\1.")]
    compared({"kind": "vgg", "depth": 11, "width": 4, "pools": 3, "head": list(head)}, shape, twin, names)


def test_resnet_110_builds_and_takes_a_step() -> None:
    spec = spec_of(kind="resnet", depth=110)
    network = build_network(spec, DIGITS, 10)
    before = network.output.weight.clone()
    network(torch.rand(4, *DIGITS)).square().mean().backward()
    gradients = [parameter.grad for parameter in network.parameters()]
    assert all(gradient is not None and bool(gradient.isfinite().all()) for gradient in gradients)
    torch.optim.SGD(network.parameters(), lr=0.1).step()
    assert not torch.equal(before, network.output.weight)


def first_conv(shape: tuple[int, ...], **network: object) -> Tensor:
    return build_network(spec_of(**network), shape, 10, device="meta").stem.conv.weight


def test_the_stem_goes_by_the_image_unless_told_otherwise() -> None:
    assert first_conv((3, 63, 99), kind="resnet").shape[2:] == (3, 3)
    assert first_conv((3, 64, 99), kind="resnet").shape[2:] == (7, 7)
    assert first_conv((3, 64, 64), kind="resnet", stem="small").shape[2:] == (3, 3)
    assert first_conv((3, 32, 32), kind="resnet_v2", stem="large").shape[2:] == (7, 7)


def refused(**network: object) -> list[tuple[str, str, str]]:
    with pytest.raises(SpecError) as caught:
        load_spec({"network": network})
    return [(fault.pointer, fault.code, fault.detail) for fault in caught.value.faults]


@pytest.mark.parametrize(
    ("network", "pointer", "code", "cure"),
    [
        ({"kind": "vgg"}, "/network/pools", "image_too_small", "use 3 pools, or larger images"),
        ({"kind": "resnet", "stem": "large"}, "/network/stem", "image_too_small", "use the stem small"),
        ({"kind": "depthwise", "stem": "large"}, "/network/stem", "image_too_small", "use the stem small"),
        ({"kind": "resnet_v2", "stem": "large"}, "/network/stem", "image_too_small", "use the stem small"),
        ({"kind": "vgg", "depth": 12}, "/network/depth", "literal_error", "11, 13, 16 or 19"),
        ({"kind": "resnet", "depth": 21}, "/network/depth", "no_such_depth", "such as 20 or 26"),
        ({"kind": "resnet", "depth": 7}, "/network/depth", "greater_than_equal", "8"),
        ({"kind": "resnet_v2", "depth": 18}, "/network/depth", "no_such_depth", "such as 14 or 20"),
        (
            {"kind": "resnet_v2", "depth": 111, "block": "bottleneck"},
            "/network/depth", "no_such_depth", "9 n + 2, such as 110 or 119",
        ),
        ({"kind": "resnet_v2", "placement": "after_sum"}, "/network/placement", "literal_error", "before_activation"),
        (
            {"kind": "resnet", "norm": {"kind": "cross_iteration_batch_norm"}, "placement": "after_sum"},
            "/network/placement", "weights_not_in_front", "use before_activation",
        ),
        (
            {"kind": "resnet_v2", "norm": {"kind": "cross_iteration_batch_norm"}},
            "/network/norm/kind", "weights_not_in_front", "use batch_norm",
        ),
        (
            {"kind": "resnet", "norm": {"kind": "group_norm", "num_groups": 32}},
            "/network/norm/num_groups", "groups_do_not_divide", "try 4, 8, 16",
        ),
        ({"kind": "resnet", "width": 4000}, "/network/width", "too_many_parameters", "at most 50,000,000"),
        ({"kind": "depthwise", "width_multiplier": 5.0}, "/network/width_multiplier", "less_than_equal", "4"),
    ],
    ids=str,
)  # fmt: skip
def test_what_cannot_work_is_refused_with_its_cure(
    network: dict[str, object], pointer: str, code: str, cure: str
) -> None:
    found = refused(**network)
    assert [each[:2] for each in found] == [(pointer, code)]
    assert cure in found[0][2]
