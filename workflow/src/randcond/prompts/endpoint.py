"""Captions from an OpenAI-compatible service: rate-limited, its cost estimated before the first request."""

import json
import logging
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from http.client import HTTPException
from typing import Any, Protocol

from randcond.jobs.errors import UserError
from randcond.jobs.keys import key_from, masked
from randcond.settings.large import Endpoint

log = logging.getLogger("randcond")

_TRIES = 6
_TIMEOUT = 300  # seconds
_ACCEPTED = 0.7  # share of lines that pass the filters, for the estimate
_CHARACTERS = 4  # of a token, for the estimate
_TOKENS = 25  # of a written line, for the estimate
_PATIENCE = 300.0  # seconds waited for at most because the service asks for it
_EMPTY = 10  # answers after one another
_FILTERED = ("content_filter", "content_policy")  # in what a service says of an answer that it withholds
_REASON = 300  # characters of what the service says of a request that it refuses
_MOST_REASON = 1 << 16  # bytes of it that are read, many times as many, as the key is masked before it is cut

ASK = (
    "Write {lines} captions of images, one a line, without numbers or quotation marks. Make them as varied as those"
    " below in subject, style and length, and copy none of them:\n{examples}"
)


class Writing(Protocol):
    """What the requests need of the settings."""

    @property
    def count(self) -> int: ...
    @property
    def max_rounds(self) -> int: ...
    @property
    def examples(self) -> int: ...
    @property
    def temperature(self) -> float: ...
    @property
    def top_p(self) -> float: ...


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirected request would hand the key to another host."""

    def redirect_request(self, *_: Any) -> None:
        return None


def estimate(endpoint: Endpoint, settings: Writing, done: int, examples: Sequence[str]) -> tuple[int, float, float]:
    """Requests still to be made, their minutes at the rate limit, and their price in dollars.

    Args:
        endpoint: The service and its prices.
        settings: How many captions are wanted.
        done: Requests that were made before.
        examples: Captions that the examples are drawn from.
    """
    requests = max(0, round(settings.count / (endpoint.lines * _ACCEPTED)) - done)
    return requests, requests / endpoint.requests_per_minute, requests * _price(endpoint, settings, examples)


def _price(endpoint: Endpoint, settings: Writing, examples: Sequence[str]) -> float:
    """Dollars of one request, about."""
    sample = examples[:1000]
    length = sum(map(len, sample)) / max(len(sample), 1)
    return _dollars(endpoint, (len(ASK) + settings.examples * length) / _CHARACTERS, endpoint.lines * _TOKENS)


def _dollars(endpoint: Endpoint, asked: float, written: float) -> float:
    return (asked * endpoint.dollars_per_million_input + written * endpoint.dollars_per_million_output) / 1e6


def endpoint_writer(
    endpoint: Endpoint,
    settings: Writing,
    done: int,
    examples: Sequence[str],
    pause: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> Callable[[str, Sequence[str], int], list[str]]:
    """The function that has a list continued by the service; logs the estimate first.

    Raises:
        UserError: If the key is missing or none, or more dollars or rounds would be needed than are allowed; later,
            before a request that ``most_dollars`` leaves nothing for, and when answer after answer is empty.
    """
    key = key_from(endpoint.key_variable)
    if not key:
        raise UserError(f"prompts.llm.writer.endpoint: set the environment variable {endpoint.key_variable} to its key")
    requests, minutes, dollars = estimate(endpoint, settings, done, examples)
    log.info(
        "%s: about %d requests, %.0f minutes at the rate limit, %.2f dollars",
        endpoint.model,
        requests,
        minutes,
        dollars,
    )
    each = _price(endpoint, settings, examples)
    spent = done * each
    if requests and spent + dollars > endpoint.most_dollars:
        raise UserError(
            f"prompts.llm.writer.endpoint.most_dollars: about {spent + dollars:.2f} dollars for {settings.count}"
            f" captions, more than the {endpoint.most_dollars:.2f} allowed; raise it or lower prompts.llm.count"
        )
    if requests and done + requests > settings.max_rounds:
        raise UserError(
            f"prompts.llm.max_rounds: about {done + requests} requests of {endpoint.lines} lines for {settings.count}"
            f" captions, more than the {settings.max_rounds} allowed; raise it or lower prompts.llm.count"
        )
    last, empty = -float("inf"), 0

    def continue_list(prompt: str, topics: Sequence[str], round_: int) -> list[str]:
        nonlocal last, spent, empty
        if spent + each > endpoint.most_dollars:
            raise UserError(
                f"prompts.llm.writer.endpoint.most_dollars: {spent:.2f} dollars are spent, and"
                f" {endpoint.most_dollars:.2f} are allowed; what was written is kept: raise it or lower"
                " prompts.llm.count, and run again"
            )
        pause(max(0.0, last + 60 / endpoint.requests_per_minute - clock()))
        last = clock()
        body = {
            "model": endpoint.model,
            "messages": [{"role": "user", "content": ASK.format(lines=endpoint.lines, examples=prompt)}],
            "temperature": settings.temperature,
            "top_p": settings.top_p,
            "seed": round_,
        }
        answer = _ask(endpoint, key, json.dumps(body).encode(), pause)
        text, used = ("", None) if answer is None else _read(endpoint, answer)
        spent += each if used is None else _dollars(endpoint, *used)
        lines = [line for line in text.splitlines() if line.strip()]
        empty = 0 if lines else empty + 1
        if empty == _EMPTY:
            raise UserError(
                f"{endpoint.url}: {_EMPTY} answers after one another were empty or withheld by its filter; check"
                " prompts.llm.writer and what the examples say"
            )
        # topics are shown before the examples' captions, and the answers take after them
        return [line.split(":", 1)[-1] for line in lines] if any(topics) else lines

    return continue_list


def _read(endpoint: Endpoint, answer: bytes) -> tuple[str, tuple[int, int] | None]:
    """What was written, and the tokens read and written as far as the service tells."""
    try:
        said = json.loads(answer)
        text = said["choices"][0]["message"]["content"] or ""
        text.splitlines()
    except (ValueError, KeyError, IndexError, TypeError, AttributeError):
        raise UserError(f"{endpoint.url}: its answer is no chat completion; check prompts.llm.writer") from None
    match said.get("usage"):
        case {"prompt_tokens": int(asked), "completion_tokens": int(written)}:
            return text, (asked, written)
    return text, None


def _ask(endpoint: Endpoint, key: str, body: bytes, pause: Callable[[float], None]) -> bytes | None:
    """The answer; None where the service's filter withholds it."""
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    request = urllib.request.Request(f"{endpoint.url.rstrip('/')}/chat/completions", body, headers)
    opener = urllib.request.build_opener(_NoRedirect)
    for attempt in range(_TRIES):
        try:
            with opener.open(request, timeout=_TIMEOUT) as response:
                found: bytes = response.read()
                return found
        except urllib.error.HTTPError as error:
            if error.code in (401, 403):
                raise UserError(
                    f"{endpoint.url}: refuses the key in {endpoint.key_variable}; set a valid one"
                ) from None
            if error.code != 429 and error.code < 500:
                said = _said(error, key)
                if error.code == 400 and any(word in said for word in _FILTERED):
                    return None
                raise UserError(
                    f"{endpoint.url}: refuses the request ({error.code}: {said[:_REASON]}); check prompts.llm.writer"
                ) from None
            wait, reason = _wait(error.headers.get("Retry-After"), attempt), f"status {error.code}"
        except (OSError, HTTPException) as error:  # not reached, or an answer that was cut off
            wait, reason = _wait(None, attempt), masked(str(getattr(error, "reason", error)), key)
        log.info("%s: %s; trying again in %.0f s", endpoint.url, reason, wait)
        pause(wait)
    raise UserError(
        f"{endpoint.url}: no answer after {_TRIES} tries ({reason}); run again, it goes on where it stopped"
    )


def _said(error: urllib.error.HTTPError, key: str) -> str:
    """What the service says of an error, at most its beginning."""
    try:
        text = error.read(_MOST_REASON).decode("utf-8", "replace")
    except (OSError, HTTPException):
        return error.reason
    return masked(text, key)


def _wait(retry_after: str | None, attempt: int) -> float:
    """Seconds until the next try: what the service asks for, or twice as long each time."""
    if retry_after and retry_after.isdecimal():
        return min(float(retry_after), _PATIENCE)
    return 2.0**attempt
