"""Whatever is sent, the answer is a 4xx problem document that names the field, and the server lives on."""

import json
import socket
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.api.holders import holder

MIB = 1 << 20


@pytest.fixture(autouse=True)
def _lives_on(shared_api: Any) -> Iterator[None]:
    yield
    assert shared_api.client.get("/v1/experiments").status_code == 200


def problem_of(answer: httpx.Response, status: int) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    document = answer.json()
    assert document["status"] == status
    assert document["type"] == f"urn:bnlab:problem:{document['code']}"
    assert document["instance"] == f"urn:uuid:{answer.headers['x-request-id']}"
    assert document["title"]
    assert document["detail"]
    return document


def post(
    api: Any, body: str | bytes | Iterator[bytes], path: str = "/v1/experiments", **headers: str
) -> httpx.Response:
    return api.client.post(path, content=body, headers={"Content-Type": "application/json", **headers})


FIELDS = {
    "an unknown norm": ('{"network": {"kind": "mlp", "norm": {"kind": "bathc_norm"}}}', "/network/norm/kind"),
    "a misspelt field": ('{"optimizer": {"kind": "sgd", "learning_rate": 0.1}}', "/optimizer/learning_rate"),
    "a group count that does not divide the channels": (
        '{"network": {"kind": "cnn", "channels": [30], "norm": {"kind": "group_norm", "num_groups": 7}}}',
        "/network/norm/num_groups",
    ),
    "one value per channel": (
        '{"network": {"kind": "mlp", "norm": {"kind": "batch_norm"}}, "train": {"batch_size": 1}}',
        "/train/batch_size",
    ),
    "one value per channel in the last partial batch": (
        '{"network": {"kind": "mlp", "norm": {"kind": "batch_norm"}}, "train": {"batch_size": 11}}',
        "/train/batch_size",
    ),
    "NaN": ('{"optimizer": {"kind": "sgd", "lr": NaN}}', "/optimizer/lr"),
    "a number beyond doubles": ('{"optimizer": {"kind": "sgd", "lr": 1e999}}', "/optimizer/lr"),
    "minus infinity": ('{"deadline_seconds": -Infinity}', "/deadline_seconds"),
    "true for a number": ('{"optimizer": {"kind": "sgd", "lr": true}}', "/optimizer/lr"),
    "a string for a number": ('{"optimizer": {"kind": "sgd", "lr": "0.1"}}', "/optimizer/lr"),
    "a NUL in the name": ('{"name": "a\\u0000b"}', "/name"),
    "a lone surrogate in the name": ('{"name": "\\ud800"}', "/name"),
    "a lone surrogate as a field": ('{"\\udfff": 1}', ""),
    "a repeated key": ('{"train": {"seed": 1, "seed": 2}}', "/train/seed"),
    "an integer of ten thousand digits": ('{"train": {"seed": ' + "9" * 10_000 + "}}", "/train/seed"),
    "null for a part": ('{"network": null}', "/network"),
    "a list as the body": ("[]", ""),
    "text that is no JSON": ('{"name": ', ""),
    "an empty body": ("", ""),
    "100,000 levels of nesting": ("[" * 100_000 + "]" * 100_000, ""),
    "100,000 levels of objects": ('{"a":' * 100_000 + "1" + "}" * 100_000, ""),
    "broken UTF-8": (b'{"name": "\xff\xfe"}', ""),
    "an encoded surrogate": (b'{"name": "\xed\xa0\x80"}', ""),
    "a byte order mark": (b"\xef\xbb\xbf{}", ""),
}


@pytest.mark.parametrize("path", ["/v1/experiments", "/v1/experiments:validate"])
@pytest.mark.parametrize(("body", "pointer"), FIELDS.values(), ids=FIELDS)
def test_a_bad_spec_is_refused_by_the_name_of_its_field(shared_api: Any, body: str, pointer: str, path: str) -> None:
    document = problem_of(post(shared_api, body, path), 422)
    assert pointer in [fault["pointer"] for fault in document["errors"]]
    assert document["code"] == "invalid_spec"
    assert all(fault["detail"] and fault["code"] for fault in document["errors"])
    assert shared_api.client.get("/v1/experiments").json()["data"] == []


def test_what_was_sent_is_not_repeated(shared_api: Any) -> None:
    answer = post(shared_api, json.dumps({"name": "s3cret\x01", "optimizer": {"kind": "s3cret", "lr": "s3cret"}}))
    assert problem_of(answer, 422)["errors"]
    assert "s3cret" not in answer.text


@pytest.mark.parametrize("size", [MIB + 1, 40 * MIB], ids=["one byte too large", "40 MB"])
def test_a_body_over_the_cap_is_refused_with_an_answer_that_can_be_read(shared_api: Any, size: int) -> None:
    assert problem_of(post(shared_api, b" " * size), 413)["max_body_bytes"] == MIB


def test_a_chunked_body_over_the_cap_is_refused_with_an_answer_that_can_be_read(shared_api: Any) -> None:
    def chunks() -> Iterator[bytes]:
        for _ in range(40):
            yield b" " * MIB

    assert problem_of(post(shared_api, chunks()), 413)["code"] == "body_too_large"


def test_a_chunked_body_within_the_cap_is_read(shared_api: Any) -> None:
    answer = post(shared_api, iter([b'{"name":', b' "chunked"}']), "/v1/experiments:validate")
    assert answer.json()["spec"]["name"] == "chunked"


def test_a_large_announced_body_is_refused_before_it_is_sent(shared_api: Any) -> None:
    with socket.create_connection(("127.0.0.1", shared_api.port), timeout=60) as connection:
        head = (
            "POST /v1/experiments HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            f"Authorization: Bearer {shared_api.key}\r\nContent-Length: 41943040\r\n\r\n"
        )
        connection.sendall(head.encode())
        assert connection.recv(4096).startswith(b"HTTP/1.1 413 ")


def test_a_client_that_goes_away_in_the_middle_of_its_body_harms_nobody(shared_api: Any) -> None:
    with socket.create_connection(("127.0.0.1", shared_api.port), timeout=60) as connection:
        head = (
            "POST /v1/experiments HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            f"Authorization: Bearer {shared_api.key}\r\nContent-Length: 100\r\n\r\n{{"
        )
        connection.sendall(head.encode())


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "application/jsonp", "json", ""])
def test_another_content_type_is_refused(shared_api: Any, kind: str) -> None:
    problem_of(shared_api.client.post("/v1/experiments", content="{}", headers={"Content-Type": kind}), 415)


def test_a_compressed_body_is_refused(shared_api: Any) -> None:
    problem_of(post(shared_api, b"\x1f\x8b", **{"Content-Encoding": "gzip"}), 415)


@pytest.mark.parametrize("kind", ["application/json; charset=utf-8", "application/vnd.bnlab+json", "Application/JSON"])
def test_json_goes_by_several_names(shared_api: Any, kind: str) -> None:
    path = "/v1/experiments:validate"
    assert shared_api.client.post(path, content="{}", headers={"Content-Type": kind}).status_code == 200


def test_a_missing_content_type_is_taken_for_json(shared_api: Any) -> None:
    assert shared_api.client.post("/v1/experiments:validate", content=b"{}").status_code == 200


@pytest.mark.parametrize("key", ["", "a b", '"unclosed', "k" * 256, "caf\xe9", '""', '"a" ; b'], ids=repr)
def test_an_idempotency_key_of_another_form_is_refused(shared_api: Any, key: str) -> None:
    headers = {"Idempotency-Key": key.encode("latin-1"), "Content-Type": "application/json"}
    document = problem_of(shared_api.client.post("/v1/experiments", content="{}", headers=headers), 400)
    assert document["errors"][0]["pointer"] == "/header/Idempotency-Key"


def test_two_idempotency_keys_are_refused(shared_api: Any) -> None:
    headers = [("Idempotency-Key", "a"), ("Idempotency-Key", "b"), ("Content-Type", "application/json")]
    problem_of(shared_api.client.post("/v1/experiments", content="{}", headers=headers), 400)


UNKNOWN = "exp_" + "0" * 32
MISSING = [
    "/docs/", "/v1", "/v1/", "/v2/experiments", "/v1/experiments/", "/v1/experiments/1", "/v1/experiments/exp_1",
    f"/v1/experiments/{UNKNOWN}", f"/v1/experiments/{UNKNOWN}/results", f"/v1/experiments/{UNKNOWN}/results?wait=5",
    f"/v1/experiments/{UNKNOWN}/metrics", f"/v1/experiments/{UNKNOWN}/events",
    f"/v1/experiments/{UNKNOWN}/checkpoints", f"/v1/experiments/{UNKNOWN}/checkpoints/ckp_{'0' * 32}",
    f"/v1/experiments/{UNKNOWN}/checkpoints/ckp_{'0' * 32}/content", f"/v1/experiments/{UNKNOWN}/checkpoints/7",
    f"/v1/experiments/{UNKNOWN.upper()}", "/v1/experiments/exp_%00", f"/v1/experiments/{UNKNOWN}%00",
    f"/v1/experiments/{UNKNOWN}%0A", "/v1/experiments/%ff%fe", "/v1/experiments/..%2f..%2fetc", "/v1/normalisers",
    "/v1/experiments/exp_" + "a" * 20_000,
]  # fmt: skip


@pytest.mark.parametrize("path", MISSING, ids=lambda path: path[:60])
def test_what_is_not_there_is_a_404_problem(shared_api: Any, path: str) -> None:
    problem_of(shared_api.client.get(path), 404)


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", "/v1/experiments", "GET, HEAD, POST"),
        ("POST", f"/v1/experiments/{UNKNOWN}", "DELETE, GET, HEAD, PATCH"),
        ("GET", f"/v1/experiments/{UNKNOWN}/cancel", "POST"),
        ("GET", "/v1/experiments:validate", "POST"),
        ("DELETE", "/healthz", "GET, HEAD"),
        ("REPORT", "/v1/normalizers", "GET, HEAD"),
    ],
)
def test_another_method_is_a_405_problem_that_names_the_right_ones(
    shared_api: Any, method: str, path: str, allowed: str
) -> None:
    answer = shared_api.client.request(method, path)
    problem_of(answer, 405)
    assert answer.headers["allow"] == allowed


QUERIES = {
    "limit=0": "limit", "limit=101": "limit", "limit=-1": "limit", "limit=x": "limit", "limit=1e3": "limit",
    f"limit={'9' * 5000}": "limit", "state=finished": "state/0", "state=queued&state=x": "state/1",
    "sate=queued": "sate", "tag=": "tag/0", "tag=a%00": "tag/0", "name=%00": "name", f"name={'n' * 201}": "name",
    "cursor=x": "cursor", "cursor=": "cursor", "cursor=%00": "cursor", "cursor=e30": "cursor", "cursor=W10": "cursor",
    f"cursor={'A' * 513}": "cursor", "cursor=WyJ4IiwxLjAsIngiXQ": "cursor", "offset=5": "offset",
    "&".join(["state=queued"] * 17): "state", "name=a&name=b": "name", "name=a&name=a": "name",
    "limit=5&limit=6": "limit", "cursor=x&cursor=x": "cursor",
    "limit=1_0": "limit", "limit=%201": "limit", "limit=%2B1": "limit", "limit=+1": "limit", "limit=1.0": "limit",
    "limit=%D9%A1": "limit", "limit=1%0A": "limit", "limit=": "limit",
    "name=%ff": "name", "name=a%C3": "name", "name=%ED%A0%80": "name", "tag=a&tag=%ff": "tag", "%ff=1": "\\udcff",
}  # fmt: skip


@pytest.mark.parametrize(("query", "parameter"), QUERIES.items(), ids=lambda text: text[:40])
def test_a_bad_parameter_of_the_listing_is_refused_by_its_name(shared_api: Any, query: str, parameter: str) -> None:
    document = problem_of(shared_api.client.get(f"/v1/experiments?{query}"), 422)
    assert f"/query/{parameter}" in [fault["pointer"] for fault in document["errors"]]


PARTS = {
    "results?wait=61": "wait", "results?wait=-1": "wait", "results?wait=nan": "wait", "results?wait=inf": "wait",
    "results?wiat=1": "wiat", "metrics?max_points=9": "max_points", "metrics?max_points=100001": "max_points",
    "metrics?keys=%00": "keys/0", "metrics?first_step=-1": "first_step", f"metrics?last_step={2**63}": "last_step",
    "metrics?key=train/loss": "key", "events?after=-1": "after", f"events?after={2**64}": "after",
    "events?limit=101": "limit", "events?after=1&after=2": "after", "results?wait=0&wait=0": "wait",
    "metrics?max_points=10&max_points=20": "max_points", "events?after=-0.0": "after", "results?wait=1_0": "wait",
    "results?wait=%201": "wait", f"checkpoints/ckp_{'0' * 32}/content?file=../secret": "file",
}  # fmt: skip


@pytest.mark.parametrize(("address", "parameter"), PARTS.items(), ids=PARTS)
def test_a_bad_parameter_of_a_part_is_refused_by_its_name(shared_api: Any, address: str, parameter: str) -> None:
    document = problem_of(shared_api.client.get(f"/v1/experiments/{UNKNOWN}/{address}"), 422)
    assert [fault["pointer"] for fault in document["errors"]] == [f"/query/{parameter}"]


@pytest.mark.parametrize("all_", ["yes", "on", "1", "True", "t", ""])
def test_a_boolean_is_true_or_false(shared_api: Any, all_: str) -> None:
    document = problem_of(shared_api.client.post(f"/v1/experiments:delete?all={all_}"), 422)
    assert [fault["pointer"] for fault in document["errors"]] == ["/query/all"]
    assert shared_api.client.post("/v1/experiments:delete?all=true").status_code == 200


def test_text_in_a_query_is_utf_8_and_is_not_guessed(sqlite_api: Any) -> None:
    made = [sqlite_api.submit(name=name) for name in ("Größe", "\ufffd")]
    for name, found in ("Gr%C3%B6%C3%9Fe", made[:1]), ("%EF%BF%BD", made[1:]):
        listed = sqlite_api.client.get(f"/v1/experiments?name={name}").json()["data"]
        assert [shown["id"] for shown in listed] == found
    problem_of(sqlite_api.client.post("/v1/experiments:cancel?name=%ff"), 422)
    assert sqlite_api.client.get(f"/v1/experiments/{made[1]}").json()["state"] == "queued"


PLAIN = [
    ("POST", f"/v1/experiments/{UNKNOWN}/cancel?dry_run=true", "/query/dry_run"),
    ("DELETE", f"/v1/experiments/{UNKNOWN}?dry_run=true", "/query/dry_run"),
    ("PATCH", f"/v1/experiments/{UNKNOWN}?x=1", "/query/x"),
    ("GET", f"/v1/experiments/{UNKNOWN}?wait=3", "/query/wait"),
    ("GET", f"/v1/experiments/{UNKNOWN}/checkpoints/ckp_{'0' * 32}?x", "/query/x"),
    ("GET", "/v1/workers?limit=1", "/query/limit"),
    ("GET", "/v1/networks?kind=mlp", "/query/kind"),
    ("POST", "/v1/experiments?x", "/query/x"),
    ("POST", "/v1/experiments:validate?a/b=", "/query/a~1b"),
    ("POST", "/v1/keys?name=x", "/query/name"),
]


@pytest.mark.parametrize(("method", "address", "pointer"), PLAIN, ids=[f"{at[0]} {at[1][:60]}" for at in PLAIN])
def test_a_parameter_where_there_are_none_is_refused(shared_api: Any, method: str, address: str, pointer: str) -> None:
    document = problem_of(shared_api.client.request(method, address), 422)
    assert (document["code"], [fault["pointer"] for fault in document["errors"]]) == ("invalid_parameters", [pointer])
    assert httpx.request(method, f"{shared_api.url}{address}", timeout=300).status_code == 401
    with holder(shared_api, "reader", "read") as reader:
        expected = 422 if method == "GET" or ":validate" in address else 403
        assert reader.request(method, address).status_code == expected
    nothing = shared_api.client.request(method, address.partition("?")[0] + "?&")
    assert "/query" not in nothing.text


@pytest.mark.parametrize("path", ["/v1/experiments", "/v1/workers"])
def test_thousands_of_parameters_are_one_fault_and_hundreds_are_cut(shared_api: Any, path: str) -> None:
    for query in ("&".join(f"{number:x}" for number in range(12_000)), "tag=a&" * 10_000):
        answer = shared_api.client.get(f"{path}?{query}")
        assert [fault["pointer"] for fault in problem_of(answer, 422)["errors"]] == ["/query"]
    answer = shared_api.client.get(f"{path}?" + "&".join(f"x{number}=1" for number in range(200)))
    assert len(problem_of(answer, 422)["errors"]) == 100


NOT_HTTP = {
    "a control character": b"GET /\x01 HTTP/1.1\r\nHost: x",
    "nonsense": b"nonsense\r\nHost: x",
    "a TLS greeting": b"\x16\x03\x01\x00\x00",
    "an unknown method": b"BREW / HTTP/1.1\r\nHost: x",
    "no host": b"GET /healthz HTTP/1.1",
    "two hosts": b"GET /healthz HTTP/1.1\r\nHost: x\r\nHost: y",
    "two lengths": b"POST /v1/experiments HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nContent-Length: 3",
    "a length and chunks": b"POST /v1/x HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nTransfer-Encoding: chunked",
    "chunks and a length": b"POST /v1/x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 2",
    "DEL in a header": b"GET /healthz HTTP/1.1\r\nHost: x\r\nIdempotency-Key: a\x7f",
}


def answered(api: Any, request: bytes) -> tuple[bytes, dict[str, Any]]:
    """Head and document of the last answer on a connection that the server then closes."""
    with socket.create_connection(("127.0.0.1", api.port), timeout=60) as connection:
        connection.sendall(request)
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    head, _, body = answer.partition(b"\r\n\r\n")
    return head.lower(), json.loads(body)


@pytest.mark.parametrize("request_head", NOT_HTTP.values(), ids=NOT_HTTP)
def test_what_is_not_http_is_a_400_problem_and_the_end_of_its_connection(shared_api: Any, request_head: bytes) -> None:
    head, document = answered(shared_api, request_head + b"\r\n\r\n")
    assert head.startswith(b"http/1.1 400 ")
    assert b"content-type: application/problem+json" in head
    assert b"connection: close" in head
    assert (document["status"], document["code"]) == (400, "invalid_http")
    assert f"x-request-id: {document['instance'].removeprefix('urn:uuid:')}".encode() in head


def test_a_head_without_end_is_refused(shared_api: Any) -> None:
    head, document = answered(shared_api, b"GET /healthz HTTP/1.1\r\nHost: x\r\n" + b"X-A: aaaaaaaaaaaaaaa\r\n" * 3200)
    assert head.startswith(b"http/1.1 431 ")
    assert document["code"] == "head_too_large"
    head, _ = answered(shared_api, b"GET /" + b"a" * 66_000)
    assert head.startswith(b"http/1.1 431 ")


def test_a_body_in_a_million_pieces_is_refused(shared_api: Any) -> None:
    request = (
        b"POST /v1/experiments HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nAuthorization: Bearer "
        + shared_api.key.encode() + b"\r\n\r\n" + b"1\r\n \r\n" * 2000
    )  # fmt: skip
    assert answered(shared_api, request)[0].startswith(b"http/1.1 400 ")


def test_an_upgrade_that_is_not_offered_is_answered_as_any_request(shared_api: Any) -> None:
    request = b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"
    head, document = answered(shared_api, request)
    assert head.startswith(b"http/1.1 200 ")
    assert document == {"status": "ok"}


HOSTILE = [
    b'{"":0,"":0},' * 80_000, b'"a":1,' * 150_000, b"[" * 500_000, b"[]," * 300_000, b'"\\u0000",' * 100_000,
    b"1e400," * 150_000, b"9" * 1_000_000,
]  # fmt: skip


@pytest.mark.parametrize("hostile", HOSTILE, ids=lambda body: repr(body[:8]))
def test_a_hostile_megabyte_is_refused_like_any_other_body(shared_api: Any, hostile: bytes) -> None:
    for body in (b"[" + hostile + b"0]", b"{" + hostile + b'"z":0}', b'{"tags":{"a":[' + hostile + b"0]}}"):
        document = problem_of(post(shared_api, body, "/v1/experiments:validate"), 422)
        assert len(document["errors"]) <= 100


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/experiments"),
        ("POST", "/v1/experiments"),
        ("POST", "/v1/experiments:validate"),
        ("POST", "/v1/experiments/none/clone"),
        ("PATCH", "/v1/experiments/none"),
        ("POST", "/v1/keys"),
    ],
)
def test_without_a_key_nothing_else_is_said_of_a_request(shared_api: Any, method: str, path: str) -> None:
    answer = httpx.request(
        method, f"{shared_api.url}{path}?nonsense=1", content="{", headers={"Content-Type": "text/x"}, timeout=300
    )
    assert (answer.status_code, answer.json()["code"]) == (401, "unauthenticated")
