"""Two features at once, for every layer: the numbers of plain code without them, or an error that says what to do.

Which pairs are refused is said in `docs/norms/pairs.yaml`, for the users as for these tests. The quick tests cover each
pair by a few programs with many features, but for those with a compiler or several processes; the slow ones run each
pair by itself.
"""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from tests.bncore.pairs.outcome import Cache, fault
from tests.bncore.pairs.program import Program
from tests.bncore.pairs.ranks import WORLD, load
from tests.bncore.pairs.subjects import Subject, of_torch, subjects
from tests.bncore.pairs.table import COMPILERS, FEATURES, QUICK, REFUSALS, Features, Refusal, pairs, programs, refusals

SUBJECTS = subjects()
ONE_OF_EACH = list({subject.kind: subject for subject in SUBJECTS}.values())
"""For the quick tests: the last configuration of each layer, which is the one with more to it."""
each_kind = pytest.mark.parametrize("subject", ONE_OF_EACH, ids=lambda subject: subject.name)
every_subject = pytest.mark.parametrize("subject", SUBJECTS, ids=lambda subject: subject.name)
pytestmark = [
    # `recalibrate` measures without gradients.
    pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad=True:UserWarning"),
    # All of them come out of the compiler itself.
    pytest.mark.filterwarnings("ignore:.*_prims_common.check:FutureWarning"),
    pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*autograd.function.Function.* should not be instantiated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning"),
]


def faults(subject: Subject, several: Sequence[Features]) -> list[str]:
    cache: Cache = {}
    found = [fault(subject, features, lambda one=features: Program(subject, one).run(), cache) for features in several]
    return [one for one in found if one is not None]


@each_kind
def test_many_features_at_once_change_no_number_that_they_should_not(subject: Subject) -> None:
    assert not faults(subject, programs(subject, QUICK))


@each_kind
def test_what_is_refused_is_refused_with_the_error_that_the_page_gives(subject: Subject) -> None:
    assert not faults(subject, [pair for pair in pairs(QUICK) if len(pair) > 1 and refusals(subject, pair)])


@pytest.mark.parametrize(
    "refusal",
    [one for one in REFUSALS if one.by == "torch" and one.layers is None and not {*COMPILERS} & {*one.when}],
    ids=lambda one: " and ".join(one.when),
)
def test_what_torch_refuses_of_all_layers_it_refuses_of_its_own(refusal: Refusal) -> None:
    assert not faults(of_torch()[0], [refusal.when])


def test_the_page_names_layers_and_features_that_there_are() -> None:
    kinds = {name for subject in SUBJECTS for name in (subject.kind, subject.name)}
    for refusal in REFUSALS:
        assert {*refusal.when} <= {*FEATURES}
        assert {*(refusal.layers or ())} <= kinds


@pytest.mark.parametrize(
    ("name", "pair"),
    [
        # An update in place that vmap has no rule for, and an autograd formula that an operator lacked.
        ("power_norm", ("vmap", "compile")),
        ("cross_iteration_batch_norm, following", ("amp", "export")),
        # A row of a buffer, which torch's kernel wrote to in vain.
        pytest.param("domain_batch_norm, second of three", ("vmap", "compile"), marks=pytest.mark.system),
        # Statistics that torch's kernel wrote to, of no batch of vmap's.
        pytest.param("ghost_batch_norm", ("vmap", "compile"), marks=pytest.mark.system),
        # Another power iteration where a pass runs again, which is refused now.
        pytest.param("spectral_norm", ("checkpoint", "compile"), marks=pytest.mark.system),
        # A memory format that vmap does not tell of.
        pytest.param("decorrelated_batch_norm", ("vmap", "compile"), marks=pytest.mark.system),
    ],
    ids=str,
)
def test_pairs_with_a_compiler_that_once_were_wrong(name: str, pair: Features) -> None:
    torch._dynamo.reset()
    assert not faults(next(subject for subject in SUBJECTS if subject.name == name), [pair])


@pytest.mark.slow
@every_subject
def test_each_pair_is_right_or_refused(subject: Subject) -> None:
    assert not faults(subject, pairs(QUICK))


@pytest.mark.slow
@pytest.mark.timeout(900)
@every_subject
@pytest.mark.parametrize("compiler", COMPILERS)
def test_each_feature_is_right_or_refused_with_a_compiler(subject: Subject, compiler: str) -> None:
    found = []
    for pair in pairs([*QUICK, *COMPILERS]):
        # The pair of both is with the first.
        if compiler in pair and (compiler == COMPILERS[0] or COMPILERS[0] not in pair):
            torch._dynamo.reset()
            found += faults(subject, [pair])
    assert not found


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the first of two processes left what it observed."""
    directory = tmp_path_factory.mktemp("pairs")
    done = subprocess.run(
        [sys.executable, "-m", "tests.bncore.pairs.ranks", str(directory)],
        cwd=Path(__file__).parents[3],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=1500,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:]
    return directory


@pytest.mark.slow
@pytest.mark.timeout(1800)
@every_subject
def test_each_feature_is_right_or_refused_with_two_processes(subject: Subject, ranks: Path) -> None:
    cache: Cache = {}
    results = load(ranks, subject)
    found = [fault(subject, features, run, cache, WORLD) for features, run in results.items()]
    assert len(results) == len(FEATURES)
    assert not [one for one in found if one is not None]
