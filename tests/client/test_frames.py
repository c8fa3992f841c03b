"""Runs as data frames of the libraries themselves, where these are installed."""

import math
from typing import Any

import pytest

from client.comparisons import columns_of

PATHS = ["optimizer.lr", "network.norm.kind", "train.target", "data.augment"]
COMPARED: dict[str, Any] = {
    "paths": PATHS,
    "measures": ["test/accuracy", "best"],
    "groups": [
        {
            "where": {"optimizer.lr": 1, "network.norm.kind": "batch_norm", "train.target": True},
            "runs": [
                {"id": "a", "seed": 0, "state": "succeeded", "stop_reason": "budget", "values": {"best": math.nan}},
                {"id": "b", "seed": 1, "state": "running", "stop_reason": None, "values": {}},
            ],
        },
        {
            "where": {"optimizer.lr": 0.25, "train.target": "x", "data.augment": [{"kind": "flip"}]},
            "runs": [
                {
                    "id": "c",
                    "seed": 0,
                    "state": "succeeded",
                    "stop_reason": "diverged",
                    "values": {"test/accuracy": math.inf, "best": 1},
                }
            ],
        },
    ],
}


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_a_frame_has_a_row_a_run_and_a_column_of_one_type_for_all_that_differs(library: str) -> None:
    frame = pytest.importorskip(library).DataFrame(columns_of(COMPARED))
    assert list(frame.columns) == ["id", "seed", "state", "stop_reason", *PATHS, "test/accuracy", "best"]
    column = {name: frame[name].to_list() for name in frame.columns}
    assert column["id"] == ["a", "b", "c"]
    assert column["optimizer.lr"] == [1.0, 1.0, 0.25]
    assert column["train.target"] == ["True", "True", "x"]
    assert column["data.augment"][2] == "[{'kind': 'flip'}]"
    # A frame of pandas has NaN where polars has nothing.
    absent = [value is None or value != value for value in column["test/accuracy"]]
    assert (absent, column["test/accuracy"][2]) == ([True, True, False], math.inf)
    assert column["best"][2] == 1.0
    assert frame["optimizer.lr"].dtype == frame["best"].dtype
