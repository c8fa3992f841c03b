"""Each of the networks that are written out by hand."""

import pytest

from tests.bncore.diagnostics.by_hand import NETS, Net, build


@pytest.fixture(params=NETS, ids=lambda net: "-".join(net))
def net(request: pytest.FixtureRequest) -> Net:
    return build(*request.param)
