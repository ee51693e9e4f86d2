"""A language model behind a server that speaks OpenAI's chat protocol: vLLM, llama.cpp, Ollama, a hospital's or a vendor's.

Patient data go to this machine alone, unless the user says otherwise: no redirect is followed, and no proxy of the
environment stands between a server on this machine and us.
"""

from __future__ import annotations

import importlib.util
import ipaddress
import json
import logging
import os
import re
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from chiasm.errors import InputError, MissingExtraError, WriterError
from chiasm.report.writers.ask import Message, Unanswered

_ADDRESS = re.compile(r"(?P<model>.+?)@(?P<url>https?://.+)")
TIMEOUT_S, RETRIES, NEW_TOKENS = 120.0, 3, 1024
_BUSY = (408, 409, 429)
_FORM_REFUSED = (400, 404, 405, 415, 422)
_FORM = re.compile(
    r"response.?format|json.?(schema|object|mode)|structured.?output|guided|grammar|schema", re.IGNORECASE
)
LONGEST = 300
"""Characters of a server's own message that are shown."""


class Server:
    """A language model on a server, which may read images. The key is the environment variable OPENAI_API_KEY.

    Time-outs, cut connections, 408, 409, 429 and 5xx are tried again `retries` times by the client, which minds Retry-After.

    Raises:
        InputError: the address is none, or lies outside this machine without leave. MissingExtraError: no `openai`.
    """

    reads_images = True

    def __init__(
        self,
        model: str,
        url: str,
        allow_remote: bool = False,
        *,
        parallel: int = 64,
        timeout_s: float = TIMEOUT_S,
        retries: int = RETRIES,
    ) -> None:
        self.model, self.url, self.parallel = model, url, parallel
        self._form = 0  # of those in which an answer can be asked for, the first that the server takes
        self.name = f"openai:{model}@{url}"
        here = is_loopback(url)
        if not (here or allow_remote):
            raise InputError(
                "the server is not on this machine: patient data would leave it",
                expected="a loopback address, such as http://localhost:8000/v1",
                got=urlsplit(url).hostname or "",
                remedy="if that is allowed where you work, add --allow-remote; names, dates and numbers of reports are masked first, "
                "pictures go as they are",
            )
        if importlib.util.find_spec("openai") is None:
            raise MissingExtraError("openai", "llm", "asking a language model over HTTP")
        import openai

        logging.getLogger("openai._base_client").setLevel(logging.INFO)  # some versions log whole requests below that
        self._client = openai.OpenAI(
            api_key=os.environ.get("OPENAI_API_KEY") or "none",  # servers on one's own machine rarely want one
            base_url=url,
            timeout=timeout_s,
            max_retries=retries,
            default_headers={"Connection": "close"},  # so that none is left open when the work is done
            http_client=openai.DefaultHttpxClient(follow_redirects=False, trust_env=not here),
        )

    @classmethod
    def parse(cls, address: str, allow_remote: bool = False) -> Server:
        """`MODEL@URL`.

        Raises:
            InputError: it is not of this form, or holds a password.
        """
        match = _ADDRESS.fullmatch(address)
        try:
            parts = urlsplit(match["url"]) if match else None
            _ = parts and parts.port  # raises where it is no number
        except ValueError:
            parts = None
        if match is None or parts is None or not parts.hostname:
            raise InputError("the writer's address is not valid", expected="openai:MODEL@http://HOST:PORT/v1")
        if parts.username or parts.password or parts.query:
            remedy = "export OPENAI_API_KEY=... and leave it out of the address"
            raise InputError("a key or password in the address would be kept with every text", remedy=remedy)
        return cls(match["model"], match["url"], allow_remote)

    def reply(self, messages: Sequence[Message], schema: dict[str, Any], seed: int) -> str:
        wanted = {"type": "json_schema", "json_schema": {"name": "document", "schema": schema, "strict": True}}
        forms: tuple[dict[str, Any], ...] = (
            {"response_format": wanted},
            {"response_format": {"type": "json_object"}},
            {},
        )
        while True:
            try:
                return self._ask(messages, forms[self._form], seed)
            except _FormRefused as refused:  # the question holds the schema as well
                if self._form + 1 == len(forms):
                    raise self._refused(refused.status, refused.words) from None
                self._form += 1

    def _ask(self, messages: Sequence[Message], form: dict[str, Any], seed: int) -> str:
        """One answer, asked for in one form.

        Raises:
            _FormRefused: the server does not know the form. Unanswered, WriterError: as `reply`.
        """
        import openai

        try:
            response = self._client.chat.completions.with_raw_response.create(
                model=self.model,
                messages=list(messages),
                seed=seed,
                temperature=0,
                max_tokens=NEW_TOKENS,
                **form,
            )
            body = json.loads(response.text)
            answer = body["choices"][0]["message"]["content"]
        except openai.APITimeoutError:
            raise Unanswered("the server took too long") from None
        except openai.APIConnectionError:
            raise Unanswered("the connection to the server failed or was cut") from None
        except openai.APIStatusError as error:
            if error.status_code in _BUSY or error.status_code >= 500:
                raise Unanswered(f"the server answered {error.status_code}") from None
            words = own_words(error, messages)
            if form and error.status_code in _FORM_REFUSED and _FORM.search(_message(error)):
                raise _FormRefused(error.status_code, words) from None
            raise self._refused(error.status_code, words) from None
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError, openai.OpenAIError):
            raise Unanswered("the server's answer is not of OpenAI's protocol") from None
        if not isinstance(answer, str):
            raise Unanswered("the server's answer holds no text")
        return answer

    def _refused(self, status: int, words: str) -> WriterError:
        hints = {
            401: "set OPENAI_API_KEY",
            403: "set OPENAI_API_KEY to one that may use this model",
            404: "check the model's name, and that the address ends as the server wants it, often in /v1",
        }
        moved = "write the address that it leads to" if 300 <= status < 400 else ""
        return WriterError(
            "the server refuses the request",
            expected="a chat model that takes temperature and seed, and best response_format json_schema"
            + (", and pictures where they are sent" if status == 400 else ""),
            got=f"HTTP {status}{f': {words}' if words else ''}",
            where=self.url,
            remedy=hints.get(status, moved),
        )


class _FormRefused(Exception):
    """The server does not know the form in which an answer was asked for."""

    def __init__(self, status: int, words: str) -> None:
        super().__init__(status)
        self.status, self.words = status, words


def own_words(error: Any, messages: Sequence[Message]) -> str:
    """The message of a server's error, without what it repeats of the question: two words or more that follow each other there, and
    names and numbers of it.

    >>> class Refused: body = {"message": "No grammar for this model. You sent: Jane Roe has an effusion, Roe"}
    >>> own_words(Refused, [{"role": "user", "content": "Jane Roe has an effusion."}])
    'No grammar for this model. You sent: [...]'
    """
    said = _message(error)
    told = " ".join(
        part["content"] if isinstance(part["content"], str) else " ".join(p.get("text", "") for p in part["content"])
        for part in messages
    )
    asked = re.findall(r"\w+", told)
    pairs, known = {(a.lower(), b.lower()) for a, b in zip(asked, asked[1:], strict=False)}, {a.lower() for a in asked}
    words = list(re.finditer(r"\w+", said))
    hidden = [
        w.group().lower() in known and (w.group()[0].isupper() or w.group()[0].isdigit()) and w.start() > 0
        for w in words
    ]
    for i, (a, b) in enumerate(zip(words, words[1:], strict=False)):
        if (a.group().lower(), b.group().lower()) in pairs:
            hidden[i] = hidden[i + 1] = True
    text, at = "", 0
    for word, hide in zip(words, hidden, strict=True):
        text += said[at : word.start()] + ("\0" if hide else word.group())
        at = word.end()
    return " ".join(re.sub(r"\0(?:\W*\0)*", "[...]", text + said[at:]).split())


def _message(error: Any) -> str:
    """What a server says of its refusal, at most so much of it."""
    body = error.body if isinstance(error.body, dict) else {}
    inner = body.get("error")
    said = body.get("message") or (inner.get("message") if isinstance(inner, dict) else inner)
    return said[:LONGEST] if isinstance(said, str) else ""


def is_loopback(url: str) -> bool:
    """Whether an address is this machine by its very name: `localhost`, 127.0.0.0/8 or ::1.

    >>> [is_loopback(f"http://{host}/v1") for host in ("localhost:8000", "127.0.0.2", "[::1]:80", "localhost.evil.org", "0.0.0.0")]
    [True, True, True, False, False]
    """
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
