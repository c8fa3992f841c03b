"""docs/studies-design.md says what is so: its example runs, and what it calls built is there with those margins."""

import re
from pathlib import Path

import pytest

from bncore.studies.claims import CLAIMS

PAGE = (Path(__file__).parents[3] / "docs/studies-design.md").read_text()


def test_the_example_runs_and_gives_verdicts(capsys: pytest.CaptureFixture[str]) -> None:
    code = re.search(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert code is not None
    exec(compile(code[1], "docs/studies-design.md", "exec"), {})
    said = capsys.readouterr().out.splitlines()
    assert [line.split(" - ")[0] for line in said] == ["holds", "holds"]
    # 1.21 and 0, .002 ... .01 more, over six seeds.
    assert "of a network with batch normalization is 1.22 (95 % interval 1.21 to 1.22), over 6 seeds" in said[0]


def test_what_it_calls_built_is_there() -> None:
    built = re.findall(r"^\| C\d+\w? `([a-z-]+)` \(built\)", PAGE, re.MULTILINE)
    assert set(built) == set(CLAIMS)
    rows = {name: line for name in built for line in PAGE.splitlines() if f"`{name}` (built)" in line}
    assert all(rows[name].startswith(f"| {claim.number} ") for name, claim in CLAIMS.items())
    growth = CLAIMS["gradients-explode-with-depth"].design("cpu").margins
    assert "[1.15, 1.25]" in rows["gradients-explode-with-depth"]
    ends = growth["explodes"].equal, growth["plain"].equal
    assert [(end.low, end.high) for end in ends] == [pytest.approx((1.15, 1.25)), pytest.approx((0.9, 1.05))]
