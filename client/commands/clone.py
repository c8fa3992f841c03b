"""`bnlab clone`: an experiment once more, with something changed."""

from client.commands.connection import AsJson, ExperimentId, Url, connect
from client.commands.naming import id_of
from client.commands.outcome import reported
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
    """Submit the spec of an experiment once more, changed by `--set`; null is the default of a field.

    Example: bnlab clone digits-bn --set 'network.norm={kind: layer_norm}' --set name=digits-ln --wait
    """
    with connect(url) as client:
        source = client.get(id_of(client, experiment))
        document = assigned(source["spec"], assignments)
        patch = patch_between(source["spec"], document.value)
        with faults_located(f"the clone of {source['id']}", document):
            made = client.clone(source["id"], patch, idempotency_key=idempotency_key)
        announce(made, as_json, wait)
        if wait:
            see_through(client, made, timeout, as_json)
