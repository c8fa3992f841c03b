"""What is wrong with a URL or a key is said at once, once, and without the key."""

import time

import pytest

from client import ApiError, Client, InvalidSetting, Unreachable
from client.calls import OUTAGE_SECONDS

SECRET = "bnl_verysecret"
URL = "http://127.0.0.1:9"


@pytest.mark.parametrize("end", ["\n", "\r\n", " \t\n"])
def test_white_space_around_a_key_is_no_part_of_it(stack, end):
    with Client(f" {stack.url}/{end}", f" {stack.api_key}{end}") as client:
        assert client.url == stack.url
        assert client.catalog("losses")


@pytest.mark.parametrize("key", [f"{SECRET}\nX-Header: 1", f"{SECRET} {SECRET}", f"{SECRET}\x7f", f"{SECRET}ä"])
def test_a_key_that_cannot_be_sent_is_refused_when_it_is_given_and_never_shown(key):
    with pytest.raises(InvalidSetting, match=f"at {len(SECRET) + 1} ") as refused:
        Client(URL, key)
    assert SECRET not in f"{refused.value} {refused.value!r}"


@pytest.mark.parametrize(
    "url",
    ["127.0.0.1:8000", "ftp://127.0.0.1", "http://", "http://[::1", "http://h:99999", "http://h/?a=1", "http://h/#a"],
)
def test_a_url_that_is_none_is_refused_when_it_is_given(url):
    with pytest.raises(InvalidSetting, match="URL"):
        Client(url)


def test_a_password_in_a_url_is_refused_and_never_shown():
    with pytest.raises(InvalidSetting, match="BNLAB_API_KEY") as refused:
        Client(f"http://user:{SECRET}@127.0.0.1")
    assert SECRET not in f"{refused.value} {refused.value!r}"


@pytest.mark.parametrize("key", ["", " ", "a\nb", "ä"])
def test_an_idempotency_key_that_cannot_be_sent_is_a_mistake_and_no_outage(key):
    with Client(URL) as client, pytest.raises(InvalidSetting, match="idempotency key"):
        client.submit({}, idempotency_key=key)


def test_a_certificate_that_is_not_trusted_is_not_asked_for_twice(stack):
    told = []
    secure = stack.url.replace("http:", "https:")
    with Client(secure, SECRET, notice=told.append) as client, pytest.raises(Unreachable) as refused:
        client.results("exp_1")
    assert told == []
    assert SECRET not in str(refused.value)


@pytest.mark.parametrize("key", [SECRET, f"{SECRET}x"])
def test_no_error_log_or_repr_holds_the_key(stack, key, caplog):
    caplog.set_level("DEBUG")
    with Client(stack.url, key) as client:
        with pytest.raises(ApiError) as refused:
            client.catalog("losses")
        shown = [str(refused.value), repr(refused.value), repr(client), repr(vars(client)), caplog.text]
    with Client(URL, key, retry_seconds=0.2) as client, pytest.raises(Unreachable) as away:
        client.catalog("losses")
    shown += [str(away.value), repr(away.value), caplog.text]
    assert not [text for text in shown if SECRET in text]


def test_a_wrong_setting_is_wrong_usage_for_a_command(cli, monkeypatch):
    for name, value in (("BNLAB_API_KEY", f"{SECRET} ä"), ("BNLAB_URL", "nonsense")):
        with monkeypatch.context() as context:
            context.setenv(name, value)
            result = cli("list")
        assert (result.exit_code, result.stdout) == (2, "")
        assert SECRET not in result.stderr


def test_a_key_read_from_a_file_with_its_line_end_works_for_a_command(cli, stack, monkeypatch):
    monkeypatch.setenv("BNLAB_API_KEY", f"{stack.api_key}\n")
    assert cli("list").exit_code == 0


def test_a_port_on_which_nothing_listens_is_told_long_before_an_outage_would_be(cli):
    began = time.monotonic()
    result = cli("list", "--url", URL)
    assert time.monotonic() - began < OUTAGE_SECONDS / 2  # it is not tried again and again
    assert (result.exit_code, result.stdout) == (4, "")
    assert "127.0.0.1:9" in result.stderr
    assert "refused" in result.stderr
