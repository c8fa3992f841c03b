"""`bnlab clone`: an experiment once more, with something changed.

Invariant: what is submitted is what `--set` says, or nothing is: in a merge patch null takes a field away.
"""

from typing import Any

from bncore.spec import SpecError, load_spec
from bncore.spec.merging import merged
from client.commands.connection import AsJson, ExperimentId, Url, connect
from client.commands.dataset_names import with_dataset_ids
from client.commands.naming import id_of
from client.commands.outcome import Exit, leave, reported
from client.commands.spec_file import Assignments, assigned, faults_located
from client.commands.submit import Key, Timeout, Wait, announce, see_through
from client.documents import patch_between


@reported
def clone(
    experiment: ExperimentId,
    assignments: Assignments = None,
    wait: Wait = False,
    timeout: Timeout = None,
    idempotency_key: Key = None,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Submit the spec of an experiment once more, changed by `--set`.

    Example: bnlab clone digits-bn --set 'network.norm={kind: layer_norm}' --set name=digits-ln --wait
    """
    with connect(url) as client:
        source = client.get(id_of(client, experiment))
        document = assigned(source["spec"], assignments)
        wanted = with_dataset_ids(client, document.value)
        patch = patch_between(source["spec"], wanted)
        _require_sayable(source["spec"], patch, wanted)
        with faults_located(f"the clone of {source['id']}", document):
            made = client.clone(source["id"], patch, idempotency_key=idempotency_key)
        announce(made, as_json, wait)
        if wait:
            see_through(client, made, timeout, as_json)


def _require_sayable(source: dict[str, Any], patch: dict[str, Any], wanted: dict[str, Any]) -> None:
    """A null whose field has another default cannot be said by a patch."""
    try:
        differs = load_spec(merged(source, patch)) != load_spec(wanted)
    except SpecError:
        # The service says what is wrong with it.
        return
    if differs:
        leave(
            Exit.REFUSED,
            "a clone cannot set that null: there it means the default, which is another value; submit the spec that "
            "`bnlab show EXPERIMENT --json` has, changed by --set",
        )
