"""Predictions: answered before all other work, or refused in time; nothing of them is left."""

import threading
from typing import Any

import pytest
from sqlalchemy import func, select, update

from store import work
from store.columns import core
from store.tables import Content, File, Job
from tests.api.test_http_evaluations import MLP, claimed, finish, purge, stranger, trained
from tests.api.trouble import until

IMAGE = [[[0.5] * 8] * 8]
ANSWER = {"step": 5, "task": "classification", "probabilities": [[0.25, 0.75]], "classes": [1]}


def ask(api: Any, experiment: str, inputs: Any = (IMAGE,), **asked: Any) -> Any:
    return api.client.post(f"/v1/experiments/{experiment}/predictions", json={"inputs": list(inputs), **asked})


def asked_meanwhile(api: Any, experiment: str, **asked: Any) -> tuple[threading.Thread, list[Any]]:
    answers: list[Any] = []
    thread = threading.Thread(target=lambda: answers.append(ask(api, experiment, **asked)))
    thread.start()
    return thread, answers


def await_claim(api: Any) -> Any:
    claims: list[Any] = []

    def is_claimed() -> bool:
        claims.append(claimed(api))
        return claims[-1] is not None

    until(is_claimed)
    return claims[-1]


def predictions_of(api: Any) -> list[str]:
    with api.database.read() as session:
        return list(session.scalars(select(core(Job).c.id).where(core(Job).c.kind == "prediction")))


def assert_nothing_left(api: Any, jobs: int) -> None:
    purge(api)
    with api.database.read() as session:
        assert session.scalar(select(func.count()).select_from(core(Job))) == jobs
        held = select(func.count()).select_from(core(File)).where(core(File).c.kind == "held_checkpoint")
        assert session.scalar(held) == 0
        # The two files of the experiment's own checkpoint.
        assert sorted(session.scalars(select(core(Content).c.uses))) == [1, 1]


def test_a_worker_answers_before_it_takes_anything_else(api: Any, by_hand: Any) -> None:
    experiment, made = trained(api, by_hand, "last")
    thread, answers = asked_meanwhile(api, experiment)
    claim = await_claim(api)
    assert claim.kind == "prediction"
    assert claim.spec["inputs"] == [IMAGE]
    assert list(claim.inputs) == ["checkpoint/weights.safetensors"]
    finish(api, claim.lease, work.Concluded(ANSWER))
    thread.join()
    (answer,) = answers
    assert answer.status_code == 200, answer.text
    assert answer.json() == {**ANSWER, "checkpoint_id": made["last"], "outputs": None}
    assert_nothing_left(api, jobs=1)


def test_it_goes_before_what_waits(sqlite_api: Any, by_hand: Any) -> None:
    experiment, _ = trained(sqlite_api, by_hand, "last")
    waiting = sqlite_api.submit(**MLP)
    thread, answers = asked_meanwhile(sqlite_api, experiment)
    until(lambda: bool(predictions_of(sqlite_api)))
    claim = claimed(sqlite_api)
    assert [claim.lease.job_id] == predictions_of(sqlite_api) != [waiting]
    finish(sqlite_api, claim.lease, work.Failed("trainer_error", "It broke."))
    thread.join()
    problem = answers[0].json()
    assert (answers[0].status_code, problem["code"], problem["failure"]) == (503, "prediction_failed", "trainer_error")


def test_without_a_worker_it_ends_in_time_and_nothing_is_left(serve: Any, database_url: str, by_hand: Any) -> None:
    with serve(database_url, prediction_seconds=0.2) as api:
        experiment, _ = trained(api, by_hand, "last")
        answer = ask(api, experiment)
        assert (answer.status_code, answer.json()["code"]) == (504, "no_answer_in_time")
        assert answer.headers["Retry-After"]
        assert claimed(api) is None
        assert_nothing_left(api, jobs=1)


def test_one_that_is_at_work_when_nobody_waits_any_more_is_told_and_forgotten(
    serve: Any, database_url: str, by_hand: Any
) -> None:
    with serve(database_url, prediction_seconds=1.0) as api:
        experiment, _ = trained(api, by_hand, "last")
        # On a busy machine its second may be over before anybody has claimed it: it is asked again.
        claim = None
        while claim is None:
            thread, answers = asked_meanwhile(api, experiment)
            while claim is None and thread.is_alive():
                claim = claimed(api)
                thread.join(0.02)
            thread.join()
            assert answers[0].status_code == 504
        with api.database.read() as session:
            row = session.execute(select(core(Job)).where(core(Job).c.id == claim.lease.job_id)).one()
        assert row.desired == "kill"
        finish(api, claim.lease, work.Cancelled())
        with api.database.write() as session:
            table = core(Job)
            ended = update(table).where(table.c.id == claim.lease.job_id)
            session.execute(ended.values(finished_at=table.c.finished_at - 100))
        assert_nothing_left(api, jobs=1)


@pytest.mark.parametrize(
    ("asked", "pointer", "code"),
    [
        ({"inputs": []}, "/inputs", "too_short"),
        ({"inputs": [IMAGE] * 65}, "/inputs", "too_long"),
        ({"inputs": [IMAGE, [[0.5] * 8] * 8]}, "/inputs/1", "signal_does_not_fit"),
        ({"inputs": [[[[0.5] * 7] + [[0.5] * 8] * 7]]}, "/inputs/0", "signal_does_not_fit"),
        ({"inputs": [[[["a"] * 8] * 8]]}, "/inputs/0", "signal_does_not_fit"),
        ({"inputs": [[[[1e39] * 8] * 8]]}, "/inputs/0", "signal_does_not_fit"),
        ({"checkpoint": "first"}, "/checkpoint", "not_a_checkpoint"),
        ({"checkpoint": f"ckp_{32 * '0'}"}, "/checkpoint", "no_such_checkpoint"),
    ],
)
def test_what_cannot_be_predicted_is_refused(
    sqlite_api: Any, by_hand: Any, asked: dict[str, Any], pointer: str, code: str
) -> None:
    experiment, _ = trained(sqlite_api, by_hand, "last")
    answer = ask(sqlite_api, experiment, **{"inputs": [IMAGE], **asked})
    assert answer.status_code == 422
    assert [(fault["pointer"], fault["code"]) for fault in answer.json()["errors"]] == [(pointer, code)]
    assert_nothing_left(sqlite_api, jobs=1)


def test_nobody_else_can_ask(sqlite_api: Any, by_hand: Any) -> None:
    experiment, _ = trained(sqlite_api, by_hand, "last")
    path, headers = f"/v1/experiments/{experiment}/predictions", {"Authorization": f"Bearer {stranger(sqlite_api)}"}
    assert sqlite_api.client.post(path, json={"inputs": [IMAGE]}, headers=headers).status_code == 404
