"""Evaluations over HTTP: what fits is queued with its checkpoint, all else is refused; they are jobs of their own."""

import threading
from typing import Any

import pytest
from sqlalchemy import select

from store import files, keys, owners, purging, work
from store.columns import core
from store.jobs import leases
from store.jobs.leases import Terms, Worker
from store.keys import KeyScope
from store.tables import Checkpoint, Content, Evaluation, File
from tests.api.datasets import imported

MLP = {"network": {"kind": "mlp", "hidden": [8]}, "train": {"steps": 10}}
RESULT = {"step": 5, "before": {"accuracy": 0.5, "loss": float("nan")}, "after": None, "reason": None}


def trained(api: Any, by_hand: Any, *kinds: str) -> tuple[str, dict[str, str]]:
    """An experiment that has ended, and the ids of its checkpoints by their kind."""
    experiment = api.submit(**MLP)
    hand = by_hand(api.database)
    hand.start()
    made = {}
    for step, kind in enumerate(kinds, start=5):
        made[kind] = hand.checkpoint(kind, step, kind.encode(), b"state" if kind == "last" else None)
    hand.finish()
    return experiment, made


def ask(api: Any, experiment: str, **asked: Any) -> Any:
    headers = {"Idempotency-Key": asked.pop("key")} if "key" in asked else {}
    body = {"data": {"kind": "digits"}, **asked}
    return api.client.post(f"/v1/experiments/{experiment}/evaluations", json=body, headers=headers)


def shown(api: Any, evaluation: str, **query: Any) -> dict[str, Any]:
    answer = api.client.get(f"/v1/evaluations/{evaluation}", params=query)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def claimed(api: Any) -> Any:
    """What a worker takes next."""
    with api.database.write() as session:
        return work.take(session, Worker("prc_1", "cpu", "m", "2"), Terms(60.0), leases.new_token())


def finish(api: Any, lease: Any, outcome: Any) -> None:
    with api.database.write() as session:
        work.finish(session, lease, outcome)


def content_of(api: Any, file_id: str) -> bytes:
    return b"".join(files.read(api.database, file_id))


def test_it_is_queued_with_the_checkpoint_run_and_shown_with_its_result(api: Any, by_hand: Any) -> None:
    experiment, made = trained(api, by_hand, "best", "last")
    answer = ask(api, experiment, statistics="adabn")
    assert answer.status_code == 202, answer.text
    made_now = answer.json()
    assert answer.headers["Location"] == f"/v1/evaluations/{made_now['id']}" == made_now["links"]["self"]
    assert made_now["checkpoint_id"] == made["best"] == made_now["spec"]["checkpoint"]
    assert made_now["spec"]["statistics"]["kind"] == "adabn"
    claim = claimed(api)
    assert (claim.kind, claim.spec) == ("evaluation", made_now["spec"])
    ((path, (weights,)),) = claim.inputs.items()
    assert (path, content_of(api, weights)) == ("checkpoint/weights.safetensors", b"best")
    assert shown(api, made_now["id"])["state"] == "running"
    waited: list[dict[str, Any]] = []
    waiting = threading.Thread(target=lambda: waited.append(shown(api, made_now["id"], wait=30)))
    waiting.start()
    finish(api, claim.lease, work.Concluded(RESULT))
    waiting.join()
    (ended,) = waited
    assert (ended["state"], ended["result"]["before"]) == ("succeeded", {"accuracy": 0.5, "loss": "NaN"})
    assert ended["files"] == [], "the checkpoint is not a result"


@pytest.mark.parametrize(
    ("kinds", "asked", "meant"),
    [
        (("best", "last"), "last", "last"),
        (("last",), "best", "last"),
        (("best",), "last", "best"),
        (("last", "best"), "best", "best"),
    ],
)
def test_best_and_last_fall_back_to_what_there_is(
    sqlite_api: Any, by_hand: Any, kinds: Any, asked: Any, meant: Any
) -> None:
    experiment, made = trained(sqlite_api, by_hand, *kinds)
    assert ask(sqlite_api, experiment, checkpoint=asked).json()["checkpoint_id"] == made[meant]
    assert ask(sqlite_api, experiment, checkpoint=made[meant]).json()["checkpoint_id"] == made[meant]


@pytest.mark.parametrize(
    ("asked", "pointer", "code"),
    [
        ({"data": {"kind": "mnist5k"}}, "/data", "signal_does_not_fit"),
        ({"part": "validation"}, "/part", "no_such_part"),
        ({"statistics": "adabm"}, "/statistics/kind", "unknown_kind"),
        ({"statistics": {"kind": "tent", "batch_size": 1}}, "/statistics/batch_size", "one_value_per_channel"),
        ({"checkpoint": f"ckp_{32 * '0'}"}, "/checkpoint", "no_such_checkpoint"),
        ({"checkpoint": "newest"}, "/checkpoint", "not_a_checkpoint"),
        ({"more": 1}, "/more", "unknown_field"),
    ],
)
def test_what_cannot_be_is_refused_and_nothing_is_left(
    sqlite_api: Any, by_hand: Any, asked: Any, pointer: str, code: str
) -> None:
    experiment, _ = trained(sqlite_api, by_hand, "last")
    answer = ask(sqlite_api, experiment, **asked)
    assert answer.status_code == 422
    assert [(fault["pointer"], fault["code"]) for fault in answer.json()["errors"]] == [(pointer, code)]
    with sqlite_api.database.read() as session:
        assert session.scalars(select(core(Evaluation).c.id)).all() == []
        assert set(session.scalars(select(core(Content).c.uses))) == {1}


def test_without_a_checkpoint_yet_it_is_refused_in_words(sqlite_api: Any) -> None:
    answer = ask(sqlite_api, sqlite_api.submit(**MLP))
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["detail"] == "The experiment has no checkpoint yet"


def test_a_repeat_with_its_key_is_the_same_one(api: Any, by_hand: Any) -> None:
    experiment, _ = trained(api, by_hand, "last")
    first, again = (ask(api, experiment, key="one") for _ in range(2))
    assert (first.status_code, again.status_code) == (202, 202)
    assert first.json()["id"] == again.json()["id"]
    assert again.headers["Idempotency-Replayed"] == "true"
    other = ask(api, experiment, key="one", part="train")
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_conflict")


def test_the_checkpoint_stays_whatever_becomes_of_the_experiment_and_goes_once_it_is_measured(
    api: Any, by_hand: Any
) -> None:
    experiment, _ = trained(api, by_hand, "last")
    evaluation = ask(api, experiment).json()["id"]
    assert api.client.delete(f"/v1/experiments/{experiment}").status_code == 204
    purge(api)
    claim = claimed(api)
    ((weights,),) = claim.inputs.values()
    assert content_of(api, weights) == b"last"
    assert api.client.get(f"/v1/experiments/{experiment}/evaluations").status_code == 404
    assert [one["id"] for one in api.client.get("/v1/evaluations").json()["data"]] == [evaluation]
    finish(api, claim.lease, work.Concluded(RESULT))
    assert shown(api, evaluation)["state"] == "succeeded"
    purge(api)
    with api.database.read() as session:
        assert session.scalars(select(core(File).c.id)).all() == []
        assert session.scalars(select(core(Content).c.id)).all() == []


def purge(api: Any) -> None:
    while True:
        with api.database.write() as session:
            if not purging.purge(session):
                return


def test_it_is_cancelled_tried_again_and_deleted_with_what_it_holds(api: Any, by_hand: Any) -> None:
    experiment, _ = trained(api, by_hand, "last")
    evaluation = ask(api, experiment).json()["id"]
    path = f"/v1/evaluations/{evaluation}"
    assert api.client.delete(path).status_code == 409
    assert api.client.post(f"{path}/cancel").json()["state"] == "cancelled"
    assert api.client.post(f"{path}/retry").json()["state"] == "queued"
    claim = claimed(api)
    assert claim.lease.job_id == evaluation
    assert claim.inputs, "what was cancelled can be tried again"
    assert api.client.post(f"{path}/cancel").status_code == 202
    finish(api, claim.lease, work.Cancelled())
    events = [line["kind"] for line in api.client.get(f"{path}/events").json()["data"]]
    assert events[:4] == ["submitted", "cancelled", "retried", "claimed"]
    assert api.client.delete(path).status_code == 204
    assert api.client.get(path).status_code == 404
    with api.database.read() as session:
        kept = session.scalars(select(core(File).c.job_id).where(core(File).c.dropped_at.is_(None))).all()
    assert set(kept) == {experiment}


def test_nobody_else_sees_it(api: Any, by_hand: Any) -> None:
    experiment, _ = trained(api, by_hand, "last")
    evaluation = ask(api, experiment).json()["id"]
    headers = {"Authorization": f"Bearer {stranger(api)}"}
    for method, path in (
        ("GET", f"/v1/evaluations/{evaluation}"),
        ("POST", f"/v1/evaluations/{evaluation}/cancel"),
        ("DELETE", f"/v1/evaluations/{evaluation}"),
        ("GET", f"/v1/experiments/{experiment}/evaluations"),
    ):
        assert api.client.request(method, path, headers=headers).status_code == 404
    body = {"data": {"kind": "digits"}}
    answer = api.client.post(f"/v1/experiments/{experiment}/evaluations", json=body, headers=headers)
    assert answer.status_code == 404
    assert api.client.get("/v1/evaluations", headers=headers).json()["data"] == []


def stranger(api: Any) -> str:
    """A key of another owner, that may submit."""
    with api.database.write() as session:
        return str(
            keys.create(session, "stranger", owner=owners.create(session, "other"), scopes=[KeyScope.SUBMIT]).secret
        )


def test_pages_of_many_are_newest_first_and_do_not_shift(api: Any, by_hand: Any) -> None:
    experiment, _ = trained(api, by_hand, "last")
    made = [ask(api, experiment).json()["id"] for _ in range(5)]
    with api.database.read() as session:
        assert session.scalars(select(core(Content).c.uses).order_by(core(Content).c.uses.desc())).first() == 6
        assert len(session.scalars(select(core(Checkpoint).c.id)).all()) == 1
    for path in (f"/v1/experiments/{experiment}/evaluations", "/v1/evaluations"):
        first = api.client.get(path, params={"limit": 3}).json()
        newer = ask(api, experiment).json()["id"]
        second = api.client.get(path, params={"limit": 3, "cursor": first["next_cursor"]}).json()
        found = [one["id"] for page in (first, second) for one in page["data"]]
        assert found[: len(made)] == made[::-1]
        made.append(newer)
        assert api.client.get(path, params={"cursor": "x"}).status_code == 422
        if path.startswith("/v1/experiments"):
            assert not second["has_more"]


def test_data_of_ones_own_are_completed_held_and_stay_while_they_are_needed(
    api: Any, by_hand: Any, tmp_path: Any
) -> None:
    first, second = (imported(api, by_hand, tmp_path, name) for name in (b"one", b"two"))
    of = {"kind": "dataset", "id": first["id"]}
    experiment = api.submit(**{**MLP, "train": {"steps": 10, "batch_size": 8}}, data=of)
    hand = by_hand(api.database)
    hand.start()
    hand.checkpoint("last", 5, b"last", b"state")
    hand.finish()
    precise = ask(api, experiment, data={"kind": "dataset", "id": second["id"]}, statistics="precise")
    assert [fault["code"] for fault in precise.json()["errors"]] == ["another_dataset"]
    made = ask(api, experiment, data={"kind": "dataset", "id": second["id"]}, statistics="adabn")
    assert made.status_code == 202, made.text
    assert made.json()["spec"]["data"]["sha256"] == second["sha256"]
    claim = claimed(api)
    assert (claim.data.dataset_id, claim.data.sha256) == (second["id"], second["sha256"])
    refused = api.client.delete(f"/v1/datasets/{second['id']}")
    assert (refused.status_code, refused.json()["used_by"]) == (409, [made.json()["id"]])
    finish(api, claim.lease, work.Concluded(RESULT))
    assert api.client.delete(f"/v1/evaluations/{made.json()['id']}").status_code == 204
    assert api.client.delete(f"/v1/datasets/{second['id']}").status_code == 204
    gone = ask(api, experiment, data={"kind": "dataset", "id": second["id"]})
    assert gone.status_code == 422
    assert gone.json()["errors"][0]["pointer"] == "/data/id"
    assert ask(api, experiment, statistics="precise", data=of).status_code == 202
