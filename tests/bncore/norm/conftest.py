"""Every case of every layer, one test after the other."""

import pytest

from tests.bncore.norm.case import Case, cases


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "where(predicate): of the cases, those for which this holds")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """`case` is each case; with `shape` beside it, each shape that the case admits."""
    if "case" not in metafunc.fixturenames:
        return
    where = metafunc.definition.get_closest_marker("where")
    found = [case for case in cases() if where is None or where.args[0](case)]
    if "shape" in metafunc.fixturenames:
        pairs = [(case, shape) for case in found for shape in case.shapes]
        metafunc.parametrize(("case", "shape"), pairs, ids=[f"{case.name}-{shape}" for case, shape in pairs])
    else:
        metafunc.parametrize("case", found, ids=[case.name for case in found])


@pytest.fixture
def shape_of(case: Case) -> tuple[int, ...]:
    """The largest shape below rank 5 that the case admits: images where it can."""
    return max((shape for shape in case.shapes if len(shape) < 5), key=len)
