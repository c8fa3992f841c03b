"""The next trials of a search, from what those before them came to.

Invariant: a pure function of the trials that are there. Trial k is proposed from the results of the trials up to
k - at_once and from nothing else, whichever have ended by then: so what is proposed depends on no timing, and who asks
again, after whatever was killed, gets the same. Each proposal has a sampler of its own, seeded by search, arm and k.
"""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from bncore.searching import FAILED, LOST, MEASURED, OPEN
from bncore.seeds import derive_seed

_TRIES = 32
"""A point that was tried already is proposed anew so often."""
_SEED_BITS = 32


def propose(asked: Mapping[str, Any], _blobs: Sequence[bytes] = ()) -> bytes:
    """`proposals` as JSON: a list of {arm, trial, values}.

    `asked` has `search` (the document of a `SearchSpec`) and `arms`, of each `arm`, its `trials` in their order
    ({values, outcome, value}; null where one is gone) and `until`, the number of trials that there are to be.
    """
    search = asked["search"]
    found = [{"arm": one["arm"], **proposal} for one in asked["arms"] for proposal in _proposals(search, one)]
    return json.dumps({"proposals": found}, allow_nan=False).encode()


def _proposals(search: Mapping[str, Any], arm: Mapping[str, Any]) -> list[dict[str, Any]]:
    trials = list(arm["trials"])
    tried = {_key(one["values"]) for one in trials if one is not None}
    found = []
    for number in range(len(trials), arm["until"]):
        known = number - search["at_once"]
        history = [
            one if one is None or place <= known else {**one, "outcome": OPEN} for place, one in enumerate(trials)
        ]
        values = _proposal(search, arm["arm"], number, history, tried)
        if values is None:
            break
        tried.add(_key(values))
        trials.append({"values": values, "outcome": OPEN, "value": None})
        found.append({"trial": number, "values": values})
    return found


def _proposal(
    search: Mapping[str, Any],
    arm: str | None,
    number: int,
    history: Sequence[Mapping[str, Any] | None],
    tried: set[str],
) -> dict[str, Any] | None:
    """None where nothing new was found: a small space may be tried out."""
    for attempt in range(_TRIES):
        seed = derive_seed(search["sampler"]["seed"], "search", arm or "", str(number), str(attempt))
        values = _ask(search, history, seed % 2**_SEED_BITS)
        if _key(values) not in tried:
            return values
    return None


def _ask(search: Mapping[str, Any], history: Sequence[Mapping[str, Any] | None], seed: int) -> dict[str, Any]:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    space = {path: _distribution(one) for path, one in sorted(search["space"].items())}
    maximizes = search["direction"] == "maximize"
    study = optuna.create_study(
        sampler=_sampler(search["sampler"], seed), direction="maximize" if maximizes else "minimize"
    )
    for one in history:
        if one is not None:
            study.add_trial(_trial(one, search["space"], space))
    asked = study.ask(space)
    return {path: _value(search["space"][path], asked.params[path]) for path in search["space"]}


def _sampler(said: Mapping[str, Any], seed: int) -> Any:
    from optuna.samplers import RandomSampler, TPESampler

    if said["kind"] == "random":
        return RandomSampler(seed=seed)
    # What a version has for its defaults is said, so that another one proposes the same.
    return TPESampler(seed=seed, n_startup_trials=said["startup_trials"], multivariate=True, constant_liar=True)


def _trial(one: Mapping[str, Any], said: Mapping[str, Any], space: Mapping[str, Any]) -> Any:
    from optuna.trial import TrialState, create_trial

    outcome, value = one["outcome"], one["value"]
    # A pruned trial without a number ranks below all that have one: what diverged is known to be bad, and no number is
    # made up for it. Of a failed one nothing is known.
    states = {MEASURED: TrialState.COMPLETE, LOST: TrialState.PRUNED, FAILED: TrialState.FAIL, OPEN: TrialState.RUNNING}
    params = {path: _param(said[path], one["values"][path]) for path in said}
    return create_trial(
        state=states[outcome],
        value=value if outcome == MEASURED else None,
        params=params,
        distributions=dict(space),
    )


def _distribution(one: Any) -> Any:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if isinstance(one, list):
        return CategoricalDistribution(range(len(one)))
    kind = FloatDistribution if one["kind"] == "float" else IntDistribution
    return kind(one["low"], one["high"], log=one["scale"] == "log")


def _param(one: Any, value: Any) -> Any:
    """Of a list the place: a value may be anything."""
    return [_key(each) for each in one].index(_key(value)) if isinstance(one, list) else value


def _value(one: Any, param: Any) -> Any:
    if isinstance(one, list):
        return one[param]
    return float(param) if one["kind"] == "float" and math.isfinite(param) else param


def _key(value: Any) -> str:
    return json.dumps(value, sort_keys=True)
