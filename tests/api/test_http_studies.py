"""Studies over HTTP: asked for, followed, judged, read; and what is refused with the cure."""

from typing import Any

import pytest

from bncore.events import MetricsBlock
from bncore.studies.stepping import step
from store import processes, results, work
from store.jobs import leases
from store.jobs.leases import Terms
from store.queueing import Limits
from store.studies import working
from tests.api.holders import holder
from worker.studying import outcome_of

TINY: dict[str, Any] = {"claim": "gradients-explode-with-depth", "scale": "tiny"}
GROWTH = "diagnostics/gradient_norms/growth"
PLAIN: dict[str, Any] = {"network": {"kind": "mlp", "hidden": [16], "norm": {"kind": "none"}}, "train": {"steps": 50}}
NORMALIZED: dict[str, Any] = {"network": {"kind": "mlp", "hidden": [16]}, "train": {"steps": 50}}
COMPARED: dict[str, Any] = {"compare": {"baseline": PLAIN, "bn": NORMALIZED}, "delta": 0.01}


def submit(api: Any, headers: Any = None, **said: Any) -> dict[str, Any]:
    answer = api.client.post("/v1/studies", json={**TINY, **said}, headers=headers or {})
    assert answer.status_code == 202, answer.text
    return dict(answer.json())


def get(api: Any, study: dict[str, Any], part: str = "", **options: Any) -> Any:
    return api.client.get(f"/v1/studies/{study['id']}{part}", **options)


def ask(api: Any, study: dict[str, Any], action: str, **options: Any) -> Any:
    return api.client.post(f"/v1/studies/{study['id']}/{action}", **options)


def work_off(api: Any, most: int = 1000) -> int:
    """Do what workers would, up to so many jobs; how many there were."""
    worker = leases.Worker("prc_hand", "cpu", "some model", "2.13.0")
    for count in range(most):
        with api.database.write() as session:
            claim = work.take(session, worker, Terms(60.0), leases.new_token())
        if claim is None:
            return count
        ended: work.Outcome = work.Succeeded("budget", {"seconds": 1.0})
        if claim.kind == "study":
            found = working.found(api.database, claim.lease.job_id, lambda: None)
            ended = outcome_of(claim.lease.job_id, found, step(found), Limits())
        with api.database.write() as session:
            if claim.kind == "experiment":
                growth = 1.2 + 0.001 * claim.spec["train"]["seed"]
                values = {GROWTH: [growth], "test/accuracy": [0.9]}
                block = MetricsBlock(first_step=0, count=1, values=values)
                results.append(session, claim.lease, [block])
            work.finish(session, claim.lease, ended)
    return most


def test_a_study_is_accepted_followed_and_judged(api: Any) -> None:
    study = submit(api, name="c18", tags={"paper": "1902.08129"})
    assert (study["kind"], study["state"], study["seeds"], study["most"]) == ("claim", "queued", 6, 12)
    assert (study["spec"]["claim"], study["design"]["arms"][1]["name"]) == (TINY["claim"], "bn")
    early = get(api, study, "/verdict")
    assert (early.status_code, early.json()["code"]) == (409, "not_judged")
    tag = get(api, study).headers["etag"]
    assert get(api, study, headers={"If-None-Match": tag}).status_code == 304
    work_off(api, 4)
    now = get(api, study, headers={"If-None-Match": tag}).json()
    assert (now["state"], now["stage"], now["states"]) == ("running", "confirm", {"queued": 9, "succeeded": 3})
    assert now["stages"][0]["experiments"] == 12
    work_off(api)
    ended = get(api, study).json()
    assert (ended["state"], ended["judged"], ended["seconds"] > 0) == ("succeeded", 1, True)
    assert ended["outcomes"] == {"explodes": "holds (equivalent)", "plain": "does_not_hold"}
    verdict = get(api, study, "/verdict").json()
    assert (verdict["number"], verdict["taken"]) == (1, {"explodes": [6], "plain": [6]})
    assert [run["seed"] for run in verdict["runs"] if run["arm"] == "bn"] == list(range(6))
    assert get(api, study, "/verdict", params={"number": 2}).status_code == 409
    assert [one["kind"] for one in get(api, study, "/events").json()["data"]].count("waits") == 1
    assert [one["id"] for one in api.client.get("/v1/studies").json()["data"]] == [study["id"]]


def test_its_experiments_are_ordinary_ones_and_stay_with_it(api: Any) -> None:
    study = submit(api)
    other = api.submit()
    work_off(api, 1)
    page = get(api, study, "/experiments", params={"limit": 5}).json()
    rest = get(api, study, "/experiments", params={"limit": 100, "cursor": page["next_cursor"]}).json()
    found = page["data"] + rest["data"]
    assert [(one["arm"], one["seed"]) for one in found] == [(arm, seed) for seed in range(6) for arm in ("plain", "bn")]
    listed = api.client.get("/v1/experiments", params={"study": study["id"], "limit": 100}).json()["data"]
    assert {one["id"] for one in listed} == {one["experiment"]["id"] for one in found}
    work_off(api)
    refused = api.client.delete(f"/v1/experiments/{listed[0]['id']}")
    assert (refused.status_code, refused.json()["code"], refused.json()["study_id"]) == (409, "in_study", study["id"])
    bulk = api.client.post("/v1/experiments:delete", params={"all": "true"}).json()
    assert (bulk["changed"], api.client.get(f"/v1/experiments/{other}").status_code) == (1, 404)
    assert api.client.delete(f"/v1/studies/{study['id']}").status_code == 204
    assert api.client.get("/v1/experiments").json()["data"] == []
    assert get(api, study).status_code == 404


def test_what_is_asked_of_all_of_it(api: Any) -> None:
    study = submit(api)
    work_off(api, 2)
    assert ask(api, study, "extend", json={"seeds": 1}).status_code == 409
    assert ask(api, study, "pause").json()["state"] == "paused"
    assert work_off(api) == 0
    assert ask(api, study, "resume").json()["state"] == "running"
    refused = api.client.delete(f"/v1/studies/{study['id']}")
    assert (refused.status_code, "cancel it first" in refused.json()["detail"]) == (409, True)
    cancelled = ask(api, study, "cancel")
    assert (cancelled.status_code, cancelled.json()["state"]) == (200, "cancelled")
    assert ask(api, study, "pause").status_code == 409
    assert ask(api, study, "retry").json()["states"] == {"queued": 11, "succeeded": 1}
    work_off(api)
    assert get(api, study).json()["state"] == "succeeded"
    key = {"Idempotency-Key": '"more"'}
    first = ask(api, study, "extend", json={"seeds": 2}, headers=key)
    again = ask(api, study, "extend", json={"seeds": 2}, headers=key)
    assert (first.json()["seeds"], again.json()["seeds"], again.headers["idempotency-replayed"]) == (8, 8, "true")
    work_off(api)
    assert get(api, study, "/verdict").json()["taken"]["explodes"] == [6, 8]
    beyond = ask(api, study, "extend", json={"seeds": 5})
    assert (beyond.status_code, beyond.json()["code"]) == (409, "not_extensible")
    assert "up to 4 more" in beyond.json()["detail"]


def test_an_article_has_a_study_for_each_claim(api: Any) -> None:
    claims = api.client.get("/v1/claims").json()["data"]
    tiny = [claim["name"] for claim in claims if "tiny" in claim["scales"]]
    whole = submit(api, {"Idempotency-Key": '"all"'}, claim="article", scale="tiny")
    again = submit(api, {"Idempotency-Key": '"all"'}, claim="article", scale="tiny")
    assert (whole["id"], whole["kind"], whole["state"]) == (again["id"], "article", "queued")
    parts = api.client.get("/v1/studies", params={"part_of": whole["id"], "limit": 100}).json()["data"]
    assert sorted(part["claim"] for part in parts) == sorted(tiny)
    assert len(api.client.get("/v1/studies").json()["data"]) == 1
    assert api.client.delete(f"/v1/studies/{parts[0]['id']}").status_code == 409
    assert ask(api, whole, "cancel").json()["state"] == "cancelled"
    assert {get(api, part).json()["state"] for part in parts} == {"cancelled"}
    assert api.client.delete(f"/v1/studies/{whole['id']}").status_code == 204
    assert get(api, parts[0]).status_code == 404


def test_a_report_is_made_of_what_is_stored(api: Any) -> None:
    study = submit(api)
    assert get(api, study, "/report").status_code == 409
    work_off(api)
    report = get(api, study, "/report")
    assert report.headers["content-type"] == "application/json"
    assert report.json()["verdicts"][0]["outcome"] == "holds"
    page = get(api, study, "/report.html")
    assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert "<html" in page.text
    assert 'src="http' not in page.text
    assert "sandbox" in page.headers["content-security-policy"]


def test_a_free_comparison_is_a_study(api: Any) -> None:
    study = submit(api, claim=None, scale=None, **COMPARED)
    assert (study["kind"], study["claim"], study["seeds"], study["most"]) == ("comparison", None, 10, 20)
    work_off(api, 1)
    found = get(api, study, "/experiments", params={"limit": 100}).json()["data"]
    assert [(one["arm"], one["seed"]) for one in found[:3]] == [("baseline", 0), ("bn", 0), ("baseline", 1)]


def test_warnings_of_its_specs_are_said_when_it_is_accepted_and_again_to_a_repeat(api: Any) -> None:
    held_out = {"data": {"kind": "digits", "validation": {"share": 0.2}}, "train": {"steps": 50}}
    arms = {name: {**spec, **held_out} for name, spec in COMPARED["compare"].items()}
    slow = {"kind": "mlp", "hidden": [16], "norm": {"kind": "batch_norm", "momentum": 0.01}}
    arms["slow"] = {**held_out, "network": slow}
    tuned = {"claim": None, "scale": None, "compare": arms, "delta": 0.01, "tune": {"optimizer.lr": [0.1, 0.2]}}
    key = {"Idempotency-Key": "warned"}
    warnings = submit(api, key, **tuned)["warnings"]
    (warning,) = [one for one in warnings if one["code"] == "cold_statistics" and one["arm"] == "slow"]
    alone = api.client.post("/v1/experiments:validate", json=arms["slow"]).json()["warnings"]
    assert {name: warning[name] for name in ("pointer", "detail", "code")} in alone
    # Three arms at two settings, of which one arm warns; seeds do not count.
    assert (warning["setting"], warning["places"], warning["of"]) == ({"optimizer.lr": 0.1}, 2, 6)
    assert len({(one["pointer"], one["code"]) for one in warnings}) == len(warnings)
    assert submit(api, key, **tuned)["warnings"] == warnings


def test_warnings_stand_in_the_report_and_change_no_verdict(api: Any) -> None:
    slow = {"kind": "mlp", "hidden": [16], "norm": {"kind": "batch_norm", "momentum": 0.01}}
    arms = {"baseline": PLAIN, "slow": {"network": slow, "train": {"steps": 50}}}
    study = submit(api, claim=None, scale=None, compare=arms, delta=0.01)
    # None of the bias that both arms have, as they have it alone.
    (cold,) = study["warnings"]
    assert (cold["code"], cold["claim"], cold["arm"]) == ("cold_statistics", None, "slow")
    work_off(api)
    report = get(api, study, "/report").json()
    shared = ("pointer", "detail", "code", "arm", "setting")
    assert [{name: one[name] for name in shared} for one in report["warnings"]] == [
        {name: cold[name] for name in shared}
    ]
    assert report["verdicts"][0]["label"] == "equivalent"
    page = get(api, study, "/report.html").text
    assert "What speaks against believing it" in page
    assert cold["detail"] in page


def test_what_has_no_bearing_on_a_verdict_is_no_warning_of_it(api: Any) -> None:
    """Statistics are as cold there; the claim is about gradients at initialization."""
    study = submit(api)
    assert {one["code"] for one in study["warnings"]} == {"costly_diagnostic"}
    work_off(api)
    # What a diagnostic costs was said before it ran, and says nothing of what came out.
    assert get(api, study, "/report").json()["warnings"] == []


@pytest.mark.parametrize(
    ("said", "pointer", "text"),
    [
        ({"claim": "gradient-explode"}, "/claim", "did you mean gradients-explode-with-depth?"),
        ({"claim": "fewer-epochs", "scale": "gpu"}, "/scale", "it has tiny, cpu"),
        ({"seeds": 2}, "/seeds", "ask for 6 or more"),
        ({"seeds": 5000}, "/seeds", "less than or equal to 1000"),
        ({"claim": "article", "seeds": 9}, "/seeds", "extend a part"),
        ({"overrides": {"train": {"batch_size": -1}}}, "/overrides/train/batch_size", "greater than or equal to 1"),
        ({"overrides": {"network": {"norm": {"kind": "layer_norm"}}}}, "/overrides/network/norm/kind", "leave it out"),
        ({"overrides": {"train": {"seed": 3}}}, "/overrides/train/seed", "chosen by gradients-explode"),
        ({"overrides": {"data": {"kind": "dataset", "id": "dat_" + "0" * 32}}}, "/overrides/data/id", "no such data"),
        ({"overrides": {"diagnostics": []}}, "/overrides/diagnostics", "as it measures it"),
        ({"tags": {"arm": "x"}}, "/tags/arm", "set by the study"),
        ({"delta": 0.1}, "/delta", "Is for a comparison"),
        ({"claim": None}, "/claim", "either a claim"),
        ({**COMPARED, "claim": None, "scale": None, "delta": 0.0}, "/delta", "more than 0"),
        ({**COMPARED, "claim": None, "scale": None, "seeds": 2}, "/seeds", "give 6 or more"),
        (
            {**COMPARED, "claim": None, "scale": None, "estimand": {"metric": "validation/loss"}},
            "/estimand/metric",
            "nothing is held out",
        ),
        (
            {"claim": None, "scale": None, "delta": 0.1, "compare": {"baseline": PLAIN, "same": PLAIN}},
            "/compare/same",
            "Differs from baseline in nothing",
        ),
    ],
)
def test_what_cannot_be_answered_is_refused_with_the_cure(
    shared_api: Any, said: dict[str, Any], pointer: str, text: str
) -> None:
    answer = shared_api.client.post("/v1/studies", json={**TINY, **said})
    assert answer.status_code == 422, answer.text
    (fault,) = answer.json()["errors"]
    assert fault["pointer"] == pointer
    assert text in fault["detail"]
    assert shared_api.client.get("/v1/experiments").json()["data"] == []


def test_data_that_no_worker_has_are_refused_where_that_is_known(api: Any) -> None:
    asked = {"claim": "moments-steady-with-depth", "scale": "gpu"}
    for versions, status in (({"torch": "2"}, 202), ({"scipy": "1"}, 422), ({"scipy": "1", "mlxtend": "0"}, 202)):
        with api.database.write() as session:
            beat = processes.Heartbeat("prc_1", "worker", "h", 1, device="cpu", device_model="m", versions=versions)
            processes.beat(session, beat)
        answer = api.client.post("/v1/studies", json=asked)
        assert answer.status_code == status, answer.text
        if status == 422:
            assert "bnlab[mnist5k]" in answer.json()["errors"][0]["detail"]


def test_a_study_is_its_owners_alone(api: Any) -> None:
    study = submit(api)
    work_off(api)
    with holder(api, "own_other") as other:
        for path in ("", "/verdict", "/report", "/report.html", "/experiments", "/events"):
            assert other.get(f"/v1/studies/{study['id']}{path}").status_code == 404
        for action in ("cancel", "pause", "resume", "retry"):
            assert other.post(f"/v1/studies/{study['id']}/{action}").status_code == 404
        assert other.post(f"/v1/studies/{study['id']}/extend", json={"seeds": 1}).status_code == 404
        assert other.delete(f"/v1/studies/{study['id']}").status_code == 404
        assert other.get("/v1/studies").json()["data"] == []


def test_what_is_ahead_counts_before_it_is_submitted_and_an_article_is_the_sum_of_its_parts(api: Any) -> None:
    compared = {**COMPARED, "tune": {"optimizer.lr": [0.03, 0.3, 3.0]}, "seeds": 6, "tuning_seeds": 1}
    compared["compare"] = {
        name: {**spec, "data": {"kind": "digits", "validation": {"count": 200}}}
        for name, spec in COMPARED["compare"].items()
    }
    study = submit(api, claim=None, scale=None, **compared)
    tune = {"name": "tune", "experiments": 6, "total_steps": 6 * 50}
    confirm = {"name": "confirm", "experiments": 12, "total_steps": 12 * 50}
    assert study["ahead"] == [tune, confirm]
    assert (study["progress"]["total_steps"], study["eta_seconds"]) == (18 * 50, None)
    work_off(api, 1)
    begun = get(api, study).json()
    assert (begun["ahead"], begun["experiments"], begun["progress"]["total_steps"]) == ([confirm], 6, 18 * 50)
    article = submit(api, claim="article")
    parts = api.client.get("/v1/studies", params={"part_of": article["id"], "limit": 100}).json()["data"]
    for name in ("tune", "confirm"):
        of_parts = [one for part in parts for one in part["ahead"] if one["name"] == name]
        (whole,) = (one for one in article["ahead"] if one["name"] == name)
        assert whole["experiments"] == sum(one["experiments"] for one in of_parts) > 0
        assert whole["total_steps"] == sum(one["total_steps"] for one in of_parts)
    ask(api, article, "cancel")
    assert get(api, article).json()["ahead"] == []
