"""The `openai` client against a real HTTP server in this process that misbehaves as servers do."""

import json
import logging
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from chat_server import ChatServer

from chiasm.errors import InputError, MissingExtraError, WriterError
from chiasm.report.writers import open_writer
from chiasm.report.writers.ask import Unanswered
from chiasm.report.writers.server import Server, is_loopback

ASK = ([{"role": "user", "content": "Jane Roe has an effusion"}], {"type": "object"}, 3)
BUSY = ("status", 429, {"Retry-After": "0.2"})


def test_the_request_asks_for_the_schema(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    with ChatServer(lambda body, n: '{"a": 1}') as server:
        model = Server.parse(f"some/model@2:{'x'}@{server.url}")
        assert model.reply(*ASK) == '{"a": 1}'
    (body,), (headers,) = server.requests, server.headers
    assert body["model"] == "some/model@2:x"
    assert (body["seed"], body["temperature"]) == (3, 0)
    wanted = {"name": "document", "schema": {"type": "object"}, "strict": True}
    assert body["response_format"] == {"type": "json_schema", "json_schema": wanted}
    assert headers["authorization"] == "Bearer secret"
    assert "secret" not in model.name


def test_429_is_tried_again_after_the_time_the_server_asks_for():
    with ChatServer(lambda body, n: BUSY if n == 0 else "yes") as server:
        begun = time.monotonic()
        assert Server("m", server.url).reply(*ASK) == "yes"
        assert time.monotonic() - begun >= 0.2
    assert len(server.requests) == 2


@pytest.mark.parametrize(
    ("trouble", "said"),
    [
        (BUSY, "the server answered 429"),
        (("status", 500, {"Retry-After": "0.01"}), "the server answered 500"),
        (("cut",), "the connection to the server failed or was cut"),
        (("body", b"<html>Jane Roe</html>"), "not of OpenAI's protocol"),
        (("body", b'{"choices": []}'), "not of OpenAI's protocol"),
        (("body", b"[1]"), "not of OpenAI's protocol"),
        (("body", b"[" * 100_000), "not of OpenAI's protocol"),
        (("body", b'{"choices": [{"message": {"content": "an eff'), "not of OpenAI's protocol"),
        (("body", b'{"choices": [{"message": {"content": null}}]}'), "holds no text"),
    ],
)
def test_trouble_that_lasts_is_no_answer_and_repeats_no_words_of_the_report(trouble, said):
    with ChatServer(lambda body, n: trouble) as server, pytest.raises(Unanswered, match=said) as caught:
        Server("m", server.url, retries=1 if trouble[0] == "status" else 0).reply(*ASK)
    assert len(server.requests) == (2 if trouble[0] == "status" else 1)
    assert "Jane" not in str(caught.value)
    assert caught.value.__context__ is None or caught.value.__suppress_context__


def test_a_slow_server_is_not_waited_for():
    with ChatServer(lambda body, n: ("slow", 0.6)) as server:
        model = Server("m", server.url, timeout_s=0.1, retries=0)
        with pytest.raises(Unanswered, match="took too long"):
            model.reply(*ASK)


def test_an_address_where_nothing_listens_is_no_answer():
    with ChatServer(lambda body, n: "") as server:
        url = server.url
    with pytest.raises(Unanswered, match="connection"):
        Server("m", url, retries=0).reply(*ASK)


@pytest.mark.parametrize(("code", "hint"), [(400, "json_schema"), (401, "OPENAI_API_KEY"), (404, "model's name")])
def test_a_refusal_ends_the_work_without_the_servers_words(code, hint):
    with ChatServer(lambda body, n: ("status", code, {})) as server, pytest.raises(WriterError, match=hint) as caught:
        Server("m", server.url).reply(*ASK)
    assert "Jane" not in str(caught.value)
    assert len(server.requests) == 1


def test_a_redirect_is_not_followed():
    with (
        ChatServer(lambda body, n: "stolen") as other,
        ChatServer(lambda body, n: ("redirect", other.url)) as server,
        pytest.raises(WriterError, match="HTTP 307"),
    ):
        Server("m", server.url).reply(*ASK)
    assert other.requests == []


def test_no_proxy_stands_between_this_machine_and_itself(monkeypatch):
    with ChatServer(lambda body, n: "proxied") as proxy, ChatServer(lambda body, n: "direct") as server:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url.removesuffix("/v1"))
        for name in ("NO_PROXY", "no_proxy"):
            monkeypatch.delenv(name, raising=False)
        assert Server("m", server.url).reply(*ASK) == "direct"
    assert proxy.requests == []


@pytest.mark.parametrize(
    "url",
    [
        "https://api.example.org/v1",
        "http://10.0.0.5:8000/v1",
        "http://localhost.example.org/v1",
        "http://0.0.0.0:80/v1",
        "http://127.0.0.1.example.org/v1",
        "http://2130706433/v1",
        "http://[::2]/v1",
        "http://[::ffff:10.0.0.5]/v1",
        "http://example.org/localhost",
        "http://example.org/#@localhost/v1",
    ],
)
def test_a_server_on_another_machine_needs_permission(url):
    with pytest.raises(InputError, match="--allow-remote"):
        open_writer(f"openai:m@{url}")
    assert open_writer(f"openai:m@{url}", allow_remote=True).model == "m"


@pytest.mark.parametrize(
    "name",
    [
        *("openai:", "openai:model", "openai:m@ftp://x", "openai:m@http://", "local:", "claude", "openai:m@http://[x/"),
        *("openai:m@http://localhost:x/v1", "openai:m@http://localhost:80:90/v1"),
    ],
)
def test_a_name_that_is_none(name):
    with pytest.raises(InputError, match=r"openai:MODEL@"):
        open_writer(name)


@pytest.mark.parametrize(
    "url", ["http://localhost:9/v1", "http://127.8.0.1/v1", "http://[::1]:9/v1", "http://[0:0:0:0:0:0:0:1]/v1"]
)
def test_this_machine_needs_no_leave_and_the_client_goes_where_the_address_was_read_to_lead(url):
    model = Server.parse(f"m@{url}")
    assert is_loopback(str(model._client.base_url)) and not model._client._client.follow_redirects


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
def test_no_redirect_leads_elsewhere_even_with_leave(code):
    with (
        ChatServer(lambda body, n: "stolen") as other,
        ChatServer(lambda body, n: ("status", code, {"Location": f"{other.url}/chat/completions"})) as server,
        pytest.raises(WriterError, match=f"HTTP {code}"),
    ):
        Server("m", server.url, allow_remote=True).reply(*ASK)
    assert (len(server.requests), other.requests) == (1, [])


def test_no_words_of_a_report_in_any_log(caplog):
    logging.getLogger("openai._base_client").setLevel(logging.DEBUG)  # as OPENAI_LOG=debug does
    caplog.set_level(logging.DEBUG)
    with ChatServer(lambda body, n: BUSY if n == 0 else "an effusion") as server:
        Server("m", server.url).reply(*ASK)
    assert caplog.records and "Jane" not in caplog.text and "effusion" not in caplog.text
    assert not logging.getLogger("openai._base_client").isEnabledFor(logging.DEBUG)


def test_a_password_in_the_address_would_be_kept():
    with pytest.raises(InputError) as caught:
        open_writer("openai:m@http://me:secret@localhost/v1")
    assert "secret" not in str(caught.value)


def test_a_server_without_the_client_names_the_extra_to_install(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"chiasm\[llm\]"):
        open_writer("openai:m@http://localhost/v1")


def test_one_client_answers_several_threads_at_once():
    """The client is shared by threads."""
    together = threading.Barrier(4, timeout=20)

    def script(body, n):
        together.wait()
        return json.dumps(body["seed"])

    with ChatServer(script) as server, ThreadPoolExecutor(4) as pool:
        model = Server("m", server.url)
        answers = list(pool.map(lambda seed: model.reply(ASK[0], ASK[1], seed), range(8)))
    assert answers == [str(i) for i in range(8)]
    assert server.at_once == 4


@pytest.mark.parametrize("takes", ["json_object", "text"])
def test_a_server_that_refuses_the_schema_is_asked_for_plain_json(takes):
    """The question holds the schema in any case; what the server takes is remembered."""

    def script(body, number):
        form = body.get("response_format", {}).get("type", "text")
        if form in (takes, "text"):
            return '{"a": 1}'
        return ("status", 400, {}, f"response_format.type {form} is not supported by this model")

    with ChatServer(script) as server:
        model = Server("m", server.url)
        assert [model.reply(*ASK) for _ in range(2)] == ['{"a": 1}'] * 2
    forms = [body.get("response_format", {}).get("type", "text") for body in server.requests]
    assert (
        forms
        == {
            "json_object": ["json_schema", *["json_object"] * 2],
            "text": ["json_schema", "json_object", *["text"] * 2],
        }[takes]
    )


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("The model m does not exist", "The model m does not exist"),
        ("Quota exceeded for project 7", "Quota exceeded for project 7"),
        ("Blocked: Jane Roe has an effusion. See the policy", "Blocked: [...]. See the policy"),
        ("Text of Roe is not allowed", "Text of [...] is not allowed"),
    ],
)
def test_a_refusal_shows_the_servers_own_words_and_none_of_the_question(message, shown):
    with ChatServer(lambda body, n: ("status", 403, {}, message)) as server, pytest.raises(WriterError) as caught:
        Server("m", server.url).reply(*ASK)
    assert caught.value.got == f"HTTP 403: {shown}"
    assert not {"Jane", "Roe", "effusion"} & set(str(caught.value).replace(".", " ").split())
