"""Domain batch norm: each domain is a batch norm of its own but for scale and shift; choosing one; state for torch."""

import copy
import pickle
import threading
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from bncore.norm import BatchNorm
from bncore.norm.domain_batch_norm import DomainBatchNorm, select_domain
from tests.bncore.norm.case import sample


def batches(count: int) -> Iterator[Tensor]:
    generator = torch.Generator().manual_seed(4)
    for step in range(count):
        yield torch.randn(6, 5, 3, 3, generator=generator) * (1 + step % 3) + step % 3


def trained(num_domains: int = 3, steps: int = 7) -> DomainBatchNorm:
    layer = DomainBatchNorm(5, num_domains)
    nn.init.normal_(layer.weight, generator=torch.Generator().manual_seed(1))
    for step, batch in enumerate(batches(steps)):
        layer.domain = step % num_domains
        layer(batch)
    layer.domain = 0
    return layer


def test_with_one_domain_fifty_steps_are_those_of_torch_bit_for_bit() -> None:
    mine, theirs = DomainBatchNorm(5), nn.BatchNorm2d(5)
    for step, batch in enumerate(batches(50)):
        for layer in (mine, theirs):
            layer.train(step % 10 != 9)
        assert torch.equal(mine(batch), theirs(batch))
    for name, value in theirs.state_dict().items():
        assert torch.equal(mine.state_dict()[name], value)


@pytest.mark.parametrize("momentum", [0.1, None])
def test_domains_in_turn_are_as_many_layers_of_torch(momentum: float | None) -> None:
    layer = DomainBatchNorm(5, num_domains=3, momentum=momentum)
    each = [nn.BatchNorm2d(5, momentum=momentum) for _ in range(3)]
    for step, batch in enumerate(batches(50)):
        # Not in equal numbers.
        domain = step % 7 % 3
        layer.domain = domain
        torch.testing.assert_close(layer(batch), each[domain](batch), rtol=0, atol=0)
    for domain, plain in enumerate(each):
        layer.domain = domain
        assert layer.num_batches_tracked == plain.num_batches_tracked
        torch.testing.assert_close(layer.running_var, plain.running_var, rtol=1e-5, atol=1e-6)
        assert torch.equal(layer.state_dict()["running_mean"][domain], layer.running_mean)
        torch.testing.assert_close(layer.eval()(batch), plain.eval()(batch), rtol=1e-5, atol=1e-5)


def test_the_state_of_one_domain_loads_into_torch() -> None:
    layer = trained()
    (batch,) = batches(1)
    for domain in range(3):
        plain = nn.BatchNorm2d(5)
        plain.load_state_dict(layer.statistics_of(domain), strict=True)
        assert layer.domain == 0
        with select_domain(layer, domain):
            assert torch.equal(layer.eval()(batch), plain.eval()(batch))
    plain.running_mean.fill_(7)
    assert not (layer.state_dict()["running_mean"] == 7).any()
    assert (
        DomainBatchNorm(5, 3, affine=False).statistics_of(2).keys()
        == nn.BatchNorm2d(5, affine=False).state_dict().keys()
    )


@pytest.mark.parametrize("assign", [False, True])
@pytest.mark.parametrize("old", [False, True])
def test_each_domain_starts_from_the_statistics_of_a_layer_of_torch(assign: bool, old: bool) -> None:
    state = trained(num_domains=1).state_dict()
    if old:
        del state["num_batches_tracked"]
    keys = set(state)
    layer = DomainBatchNorm(5, num_domains=3)
    layer.load_state_dict(copy.deepcopy(state), strict=True, assign=assign)
    assert set(state) == keys
    for domain in range(3):
        for name, value in layer.statistics_of(domain).items():
            assert torch.equal(value, state.get(name, torch.tensor(0)))
    layer(next(batches(1)))
    assert layer.statistics_of(0)["num_batches_tracked"] == layer.statistics_of(1)["num_batches_tracked"] + 1
    assert torch.equal(layer.statistics_of(1)["running_mean"], state["running_mean"])


def test_state_of_all_domains_goes_from_layer_to_layer() -> None:
    layer, other = trained(), DomainBatchNorm(5, num_domains=3)
    other.load_state_dict(layer.state_dict(), strict=True)
    for name, value in layer.state_dict().items():
        assert torch.equal(other.state_dict()[name], value)
    assert layer.state_dict()["running_mean"].shape == (3, 5)
    assert layer.state_dict()["num_batches_tracked"].tolist() == [3, 2, 2]
    with pytest.raises(RuntimeError, match="size mismatch"):
        DomainBatchNorm(5, num_domains=2).load_state_dict(layer.state_dict())


def test_copies_keep_the_chosen_domain_and_a_reset_forgets_all() -> None:
    layer = trained()
    layer.domain = 2
    for twin in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert twin.domain == 2
        assert torch.equal(twin.running_mean, layer.running_mean)
    layer.reset_running_stats()
    for name, value in DomainBatchNorm(5, num_domains=3).state_dict().items():
        if name.startswith(("running", "num")):
            assert torch.equal(layer.state_dict()[name], value)


def test_a_domain_is_chosen_for_all_layers_and_put_back() -> None:
    model = nn.Sequential(DomainBatchNorm(5, 3), nn.ReLU(), nn.Sequential(DomainBatchNorm(5, 4)))
    layers = [model[0], model[2][0]]
    layers[1].domain = 1
    with select_domain(model, 2):
        assert [layer.domain for layer in layers] == [2, 2]
        with select_domain(model, 0):
            model(next(batches(1)))
        assert [layer.domain for layer in layers] == [2, 2]
    assert [layer.domain for layer in layers] == [0, 1]
    assert [layer.state_dict()["num_batches_tracked"].tolist() for layer in layers] == [[1, 0, 0], [1, 0, 0, 0]]
    # The first of the layers has no such domain: whatever was chosen already is put back.
    for index in (3, 4, -1):
        with pytest.raises(ValueError, match="count from 0"), select_domain(nn.Sequential(*layers[::-1]), index):
            pass
        assert [layer.domain for layer in layers] == [0, 1]
    with pytest.raises(KeyError), select_domain(model, 2):
        raise KeyError
    assert [layer.domain for layer in layers] == [0, 1]


def test_without_a_block_a_domain_is_chosen_for_good_and_all_or_nothing() -> None:
    model = nn.Sequential(DomainBatchNorm(4, 3), nn.Sequential(DomainBatchNorm(4, 2)))
    select_domain(model, 1)
    assert [model[0].domain, model[1][0].domain] == [1, 1]
    with pytest.raises(ValueError, match="domain 2 of 2"):
        select_domain(model, 2)
    assert [model[0].domain, model[1][0].domain] == [1, 1]
    x = torch.randn(6, 4)
    model(x)
    torch.testing.assert_close(model[0].statistics_of(1)["running_mean"], 0.1 * x.mean(0))
    assert not model[0].statistics_of(0)["running_mean"].any()
    selection = select_domain(model[0], 2)
    model[0].domain = 0
    with selection:
        pass
    assert model[0].domain == 1


def test_what_cannot_be_chosen_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one domain"):
        DomainBatchNorm(5, num_domains=0)
    with pytest.raises(TypeError):
        DomainBatchNorm(5).domain = 0.5
    with pytest.raises(ValueError, match="no DomainBatchNorm"), select_domain(nn.BatchNorm2d(5), 0):
        pass


def replaced(layer: DomainBatchNorm) -> None:
    layer.running_mean = layer.state_dict()["running_mean"].clone()


def given_other_memory(name: str) -> Callable[[DomainBatchNorm], None]:
    def happens(layer: DomainBatchNorm) -> None:
        layer._buffers[name].data = layer._buffers[name].clone()

    return happens


def laid_out_otherwise(layer: DomainBatchNorm) -> None:
    """In the same memory. Training by statistics that are no vectors is another way through the kernel."""
    layer._buffers["running_mean"] = layer._buffers["running_mean"].as_strided((3, 5), (1, 3))


def loaded(layer: DomainBatchNorm) -> None:
    layer.load_state_dict(copy.deepcopy(layer.state_dict()), assign=True)


def there_and_back(layer: DomainBatchNorm) -> None:
    layer.double()
    layer(next(batches(1)).double())
    layer.float()


def shared(layer: DomainBatchNorm) -> None:
    layer.share_memory()


def swapped(layer: DomainBatchNorm) -> None:
    torch.utils.swap_tensors(layer._buffers["running_mean"], layer._buffers["running_mean"].clone())


def evaluated_in_inference_mode(layer: DomainBatchNorm) -> None:
    loaded(layer)
    with torch.inference_mode():
        layer.eval()(next(batches(1)))
        layer.train()(next(batches(1)))


def seen_by_a_mode(layer: DomainBatchNorm) -> None:
    loaded(layer)
    (batch,) = batches(1)
    with FakeTensorMode(allow_non_fake_inputs=True):
        layer(batch)
        layer.eval()(batch)
    layer.train()


HAPPENS = {
    "replaced": replaced,
    **{name: given_other_memory(name) for name in ("running_mean", "running_var", "num_batches_tracked")},
    "loaded": loaded,
    "there and back": there_and_back,
    "shared": shared,
    "swapped": swapped,
    "inference mode": evaluated_in_inference_mode,
    "a mode": seen_by_a_mode,
}


@pytest.mark.parametrize("happens", HAPPENS.values(), ids=HAPPENS)
def test_whatever_becomes_of_its_statistics_training_moves_those_that_it_has(
    happens: Callable[[DomainBatchNorm], None],
) -> None:
    layer, other = trained(), trained()
    happens(layer)
    other.load_state_dict(copy.deepcopy(layer.state_dict()))
    (batch,) = batches(1)
    # By the long way, which keeps nothing: as a parameter, it is not a plain tensor.
    torch.testing.assert_close(layer(batch), other(nn.Parameter(batch)), rtol=0, atol=0)
    for name, value in other.state_dict().items():
        assert torch.equal(layer.state_dict()[name], value)
    assert layer.state_dict()["num_batches_tracked"][0] > trained().state_dict()["num_batches_tracked"][0]


@pytest.mark.parametrize("happens", [*HAPPENS.values(), laid_out_otherwise], ids=[*HAPPENS, "laid out otherwise"])
def test_whatever_becomes_of_its_statistics_evaluation_uses_those_that_it_has(
    happens: Callable[[DomainBatchNorm], None],
) -> None:
    layer = trained()
    (batch,) = batches(1)
    layer.eval()(batch)
    happens(layer.train())
    for domain, name in enumerate(("running_mean", "running_var", "running_mean")):
        layer._buffers[name][domain].add_(1.0 + domain)
    for domain in range(3):
        layer.domain = domain
        plain = nn.BatchNorm2d(5).eval()
        plain.load_state_dict(layer.statistics_of(domain))
        for given in (batch, batch.clone().requires_grad_()):
            torch.testing.assert_close(layer.eval()(given), plain(given), rtol=0, atol=0)


@pytest.mark.parametrize("training", [True, False])
def test_channels_that_are_cut_off_in_their_memory_are_gone(training: bool) -> None:
    layer, (batch,) = trained().train(training), batches(1)
    layer(batch)
    for name, tensor in [*layer.named_parameters(), *layer.named_buffers()]:
        if name != "num_batches_tracked":
            tensor.data = tensor.data[..., :4]
    layer.num_features = 4
    for domain in range(3):
        layer.domain = domain
        plain = nn.BatchNorm2d(4).train(training)
        plain.load_state_dict(layer.statistics_of(domain))
        torch.testing.assert_close(layer(batch[:, :4]), plain(batch[:, :4]), rtol=0, atol=0)
        assert all(torch.equal(value, plain.state_dict()[name]) for name, value in layer.statistics_of(domain).items())


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", ["running_mean", "running_var"])
def test_gradients_of_statistics_are_refused_as_torch_does(name: str, training: bool) -> None:
    layer, (batch,) = trained().train(training), batches(1)
    layer(batch)
    layer._buffers[name].requires_grad_()
    with pytest.raises(RuntimeError, match=name):
        layer(batch)
    with torch.no_grad():
        found = layer.eval()(batch)
    layer._buffers[name].requires_grad_(False)
    assert torch.equal(found, layer(batch))


def test_one_domain_may_keep_its_axis_and_a_count_may_be_of_another_size_in_evaluation() -> None:
    (batch,) = batches(1)
    one = DomainBatchNorm(5, 1).eval()
    plain = nn.BatchNorm2d(5).eval()
    for name in ("running_mean", "running_var"):
        one._buffers[name] = torch.full((1, 5), 2.0)
        plain._buffers[name].fill_(2.0)
    assert torch.equal(one(batch), plain(batch))
    layer = trained().eval()
    plain.load_state_dict(layer.statistics_of(0))
    layer._buffers["num_batches_tracked"] = torch.tensor(7)
    assert torch.equal(layer(batch), plain(batch))


def test_copies_in_threads_choose_and_move_their_own() -> None:
    first = trained()
    layers = [first, copy.deepcopy(first), copy.copy(pickle.loads(pickle.dumps(first)))]
    started = threading.Barrier(len(layers))

    def train(layer: DomainBatchNorm, domain: int) -> None:
        started.wait()
        for batch in batches(30):
            with select_domain(layer, domain):
                layer(batch * (domain + 1))

    threads = [threading.Thread(target=train, args=(layer, domain)) for domain, layer in enumerate(layers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for domain, layer in enumerate(layers):
        expected = trained()
        expected.domain = domain
        for batch in batches(30):
            expected(batch * (domain + 1))
        assert layer.domain == 0
        for name, value in expected.state_dict().items():
            assert torch.equal(layer.state_dict()[name], value)


def test_its_hooks_run_once_a_pass_and_one_may_choose_the_domain() -> None:
    layer, plain = trained(), nn.BatchNorm2d(5)
    plain.load_state_dict(layer.statistics_of(2))
    seen: list[str] = []
    layer.register_forward_pre_hook(lambda layer, _: seen.append("before") or setattr(layer, "domain", 2))
    layer.register_forward_hook(lambda *_: seen.append("behind"))
    layer.register_full_backward_hook(lambda *_: seen.append("back"))
    x = next(batches(1)).requires_grad_()
    y = layer(x)
    torch.testing.assert_close(y, plain(x), rtol=0, atol=0)
    y.sum().backward()
    assert seen == ["before", "behind", "back"]


def test_a_subclass_may_normalize_in_another_way_or_see_every_pass() -> None:
    seen: list[int] = []

    class Doubled(DomainBatchNorm):
        def _normalize_with_batch(self, x: Tensor) -> Tensor:
            return 2.0 * super()._normalize_with_batch(x)

    class Seen(BatchNorm):
        def forward(self, x: Tensor) -> Tensor:
            seen.append(len(x))
            return super().forward(x) + 1.0

    (batch,) = batches(1)
    plain = nn.BatchNorm2d(5)(batch)
    torch.testing.assert_close(Doubled(5, 2)(batch), 2.0 * plain, rtol=0, atol=0)
    torch.testing.assert_close(Seen(5)(batch), plain + 1.0, rtol=0, atol=0)
    assert seen == [len(batch)]


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_compiled_it_follows_the_choice() -> None:
    torch._dynamo.reset()
    eager, other = DomainBatchNorm(5, 2), DomainBatchNorm(5, 2)
    compiled = torch.compile(other, backend="aot_eager", fullgraph=True)
    for step, batch in enumerate(batches(4)):
        eager.domain = other.domain = step % 2
        torch.testing.assert_close(compiled(batch), eager(batch))
    for name, value in eager.state_dict().items():
        torch.testing.assert_close(other.state_dict()[name], value, msg=name)


def test_statistics_that_are_assigned_are_those_of_the_chosen_domain_alone() -> None:
    layer = DomainBatchNorm(4, 3).double()
    for domain in range(3):
        layer.domain = domain
        layer(sample((6, 4), domain))
    before = [layer.statistics_of(domain) for domain in range(3)]
    layer.domain = 1
    layer.running_mean = torch.full((4,), 7.0)
    layer.running_var = torch.full((4,), 2.0).double()
    layer.num_batches_tracked += 4
    assert layer.running_mean.tolist() == [7.0] * 4
    assert layer.num_batches_tracked == 5
    for domain in (0, 2):
        for name, value in layer.statistics_of(domain).items():
            assert torch.equal(value, before[domain][name]), name
    x = sample((6, 4), 9)
    torch.testing.assert_close(layer.eval()(x), (x - 7.0) / (2.0 + layer.eps) ** 0.5)
    layer.running_mean = layer.state_dict()["running_mean"] * 0.0
    assert layer.state_dict()["running_mean"].shape == (3, 4)
