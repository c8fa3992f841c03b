"""Every case of every layer, one test after the other."""

import pytest

from tests.bncore.norm.case import cases


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "where(predicate): of the cases, those for which this holds")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """`case` is each case; with `shape` beside it, each shape that the case admits; with `shape_of`, one of them."""
    if "case" not in metafunc.fixturenames:
        return
    where = metafunc.definition.get_closest_marker("where")
    found = [case for case in cases() if where is None or where.args[0](case)]
    if "shape" in metafunc.fixturenames:
        pairs = [(case, shape) for case in found for shape in case.shapes]
        metafunc.parametrize(("case", "shape"), pairs, ids=[f"{case.name}-{shape}" for case, shape in pairs])
    elif "shape_of" in metafunc.fixturenames:
        pairs = [(case, case.shape) for case in found]
        metafunc.parametrize(("case", "shape_of"), pairs, ids=[case.name for case in found])
    else:
        metafunc.parametrize("case", found, ids=[case.name for case in found])
