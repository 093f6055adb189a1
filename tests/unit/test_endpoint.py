"""A service that writes captions: retries, limits, the price beforehand, and a key that is never told."""

import json
import logging
from collections.abc import Callable
from types import SimpleNamespace

import pytest
from local_server import Answer, Server

from randcond.jobs.errors import UserError
from randcond.prompts.endpoint import endpoint_writer, estimate
from randcond.settings.fields import validated
from randcond.settings.large import Endpoint

KEY = "sk-very-secret"
SETTINGS = SimpleNamespace(count=100, max_rounds=400, examples=4, temperature=0.9, top_p=0.95)


@pytest.fixture
def service(server: Server, monkeypatch: pytest.MonkeyPatch) -> Server:
    monkeypatch.setenv("WRITER_KEY", KEY)
    return server


def endpoint(service: Server, **changes: object) -> Endpoint:
    values = {"url": f"{service.url}/v1", "model": "m", "key_variable": "WRITER_KEY", "lines": 5}
    values |= {"dollars_per_million_input": 0.0, "dollars_per_million_output": 0.0}
    return Endpoint(**values | changes)


def answer(*lines: str) -> Answer:
    return Answer(body=json.dumps({"choices": [{"message": {"content": "\n".join(lines)}}]}))


def writer(
    service: Server, pauses: list[float], clock: Callable[[], float] = lambda: 0.0, **changes: object
) -> Callable:
    return endpoint_writer(endpoint(service, **changes), SETTINGS, 0, ["a dog"], pauses.append, clock)


def test_asks_and_splits_lines(service: Server) -> None:
    service.answers = [answer("A dog on a hill", "", "2. A cat")]
    assert writer(service, [])("- a dog\n", [], 7) == ["A dog on a hill", "2. A cat"]
    (asked,) = service.asked
    assert (asked.method, asked.path) == ("POST", "/v1/chat/completions")
    body = json.loads(asked.body)
    assert asked.headers["Authorization"] == f"Bearer {KEY}"
    assert (body["model"], body["seed"]) == ("m", 7)
    assert "5 captions" in body["messages"][0]["content"]
    assert "- a dog" in body["messages"][0]["content"]


def test_tries_again_and_waits_as_asked(service: Server, caplog: pytest.LogCaptureFixture) -> None:
    logging.getLogger("randcond").propagate = True
    caplog.set_level(logging.DEBUG)
    service.answers = [Answer(429, {"Retry-After": "17"}), Answer(503, {}, KEY), answer("a cat")]
    pauses: list[float] = []
    assert writer(service, pauses)("- a dog\n", [], 0) == ["a cat"]
    assert pauses == [0.0, 17.0, 2.0]
    assert caplog.text
    assert KEY not in caplog.text


@pytest.mark.parametrize(
    "cut_off",
    [Answer(200, {"Content-Length": "1000"}, '{"choices'), Answer(200, {"Transfer-Encoding": "chunked"}, "50\r\n{")],
)
def test_an_answer_cut_off_is_asked_for_again(service: Server, cut_off: Answer) -> None:
    service.answers = [cut_off, answer("a cat")]
    assert writer(service, [])("- a dog\n", [], 0) == ["a cat"]


def test_gives_up_in_one_line(service: Server) -> None:
    service.answers = [Answer(500)] * 6
    with pytest.raises(UserError, match="no answer after 6 tries"):
        writer(service, [])("- a dog\n", [], 0)


def test_keeps_to_the_rate(service: Server) -> None:
    service.answers = [answer("a"), answer("b"), answer("c")]
    pauses: list[float] = []
    times = iter([100.0, 100.0, 101.0, 101.0, 200.0, 200.0])
    write = writer(service, pauses, lambda: next(times), requests_per_minute=6.0)
    for round_ in range(3):
        write("- a dog\n", [], round_)
    assert pauses == [0.0, 9.0, 0.0]


@pytest.mark.parametrize(
    ("reply", "named"),
    [
        (Answer(401), "WRITER_KEY"),
        (Answer(400, {}, f"bad request with {KEY}"), "refuses the request"),
        *((Answer(400, {}, "x" * (300 - told) + KEY), "refuses the request") for told in (4, len(KEY) - 1)),
        (Answer(400, {"Transfer-Encoding": "chunked"}, "50\r\nbro"), "refuses the request"),
        (Answer(302, {"Location": "/elsewhere"}), "302"),
        (Answer(200, {}, "<html>"), "no chat completion"),
        (Answer(200, {}, '{"choices": []}'), "no chat completion"),
    ],
)
def test_refusals_are_one_line_without_the_key(service: Server, reply: Answer, named: str) -> None:
    service.answers = [reply]
    with pytest.raises(UserError, match=named) as caught:
        writer(service, [])("- a dog\n", [], 0)
    assert KEY[:4] not in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(service.asked) == 1  # neither tried again nor followed elsewhere with the key


def test_an_answer_that_is_withheld_is_an_empty_one(service: Server) -> None:
    said = json.dumps({"error": {"message": "x" * 500, "code": "content_filter"}})
    null = Answer(body=json.dumps({"choices": [{"message": {"content": None}}]}))
    service.answers = [Answer(400, {}, said), null, answer("a cat"), *[null] * 10]
    write = writer(service, [])
    assert [write("- a dog\n", [], round_) for round_ in range(3)] == [[], [], ["a cat"]]
    assert [write("- a dog\n", [], round_) for round_ in range(3, 12)] == [[]] * 9
    with pytest.raises(UserError, match="10 answers after one another were empty"):
        write("- a dog\n", [], 12)


def test_topics_are_taken_off_the_answers(service: Server) -> None:
    service.answers = [answer("- tiger: a tiger on red", "a cat")]
    assert writer(service, [])("- dog: a dog\n", ["tiger"], 0) == [" a tiger on red", "a cat"]


def test_no_more_is_spent_than_allowed(service: Server) -> None:
    """By what the service says that it read and wrote; what it asks beyond the estimate is not known before."""
    used = {"usage": {"prompt_tokens": 10, "completion_tokens": 1_000_000}}
    service.answers = [Answer(body=json.dumps({"choices": [{"message": {"content": "a cat"}}]} | used))] * 3
    write = writer(service, [], dollars_per_million_output=1.0, most_dollars=1.5)
    assert write("- a dog\n", [], 0) == write("- a dog\n", [], 1) == ["a cat"]
    with pytest.raises(UserError, match=r"most_dollars: 2\.00 dollars are spent"):
        write("- a dog\n", [], 2)
    assert len(service.asked) == 2


def test_what_was_spent_before_counts(service: Server) -> None:
    dear = endpoint(service, dollars_per_million_output=2000.0, most_dollars=7.5)  # 0.25 dollars a request, 29 in all
    endpoint_writer(dear, SETTINGS, 0, ["a dog"])
    with pytest.raises(UserError, match=r"most_dollars: 7\.50 dollars are spent"):
        endpoint_writer(dear, SETTINGS, 30, ["a dog"])("- a dog\n", [], 30)


def test_as_many_requests_as_will_be_needed_are_allowed(service: Server) -> None:
    few = SimpleNamespace(**vars(SETTINGS) | {"max_rounds": 28})
    with pytest.raises(UserError, match=r"max_rounds: about 29 requests of 5 lines .* more than the 28 allowed"):
        endpoint_writer(endpoint(service), few, 0, ["a dog"])


def test_the_price_comes_first(service: Server) -> None:
    dear = endpoint(service, dollars_per_million_output=1e6, most_dollars=5.0)
    requests, minutes, dollars = estimate(dear, SETTINGS, 0, ["a dog"])
    assert requests == round(100 / (5 * 0.7))
    assert minutes == requests / 60
    assert dollars == pytest.approx(requests * 5 * 25)
    assert estimate(dear, SETTINGS, 20, ["a dog"])[0] == requests - 20
    with pytest.raises(UserError, match=r"most_dollars: about .* dollars for 100 captions"):
        endpoint_writer(dear, SETTINGS, 0, ["a dog"])
    assert service.asked == []


def test_a_price_has_to_be_given() -> None:
    with pytest.raises(UserError, match="dollars_per_million_input: Field required"):  # or it is free
        validated(Endpoint, {"url": "https://x/v1", "model": "m", "dollars_per_million_output": 1.0}, "endpoint")


def test_no_key(service: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WRITER_KEY")
    with pytest.raises(UserError, match="WRITER_KEY"):
        endpoint_writer(endpoint(service), SETTINGS, 0, [])


def test_a_key_with_a_line_end_is_sent_without(service: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WRITER_KEY", f"{KEY}\r\n")
    service.answers = [answer("a cat")]
    writer(service, [])("- a dog\n", [], 0)
    assert service.asked[0].headers["Authorization"] == f"Bearer {KEY}"


@pytest.mark.parametrize("key", [f"{KEY}\n{KEY}", f"{KEY}\u2026", f"{KEY}\x7f", f"{KEY} {KEY}", f"{KEY}\udcff"])
def test_no_key_is_refused_without_showing_it(service: Server, monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    monkeypatch.setenv("WRITER_KEY", key)
    with pytest.raises(UserError, match="WRITER_KEY: holds something else than printable ASCII") as caught:
        writer(service, [])
    assert KEY not in str(caught.value)
    assert service.asked == []


@pytest.mark.parametrize("url", ["https://me:word@x/v1", "https://me:wo/rd@x", "ftp://me:word@x", "https://word@x"])
def test_a_login_in_the_configuration_is_refused_without_showing_it(url: str) -> None:
    with pytest.raises(UserError, match="writer: url: ") as caught:
        validated(Endpoint, {"url": url, "model": "m"}, "writer")
    assert "@" not in str(caught.value)
