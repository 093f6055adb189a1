"""A service that writes captions: retries, limits, the price beforehand, and a key that is never told."""

import json
import logging
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from types import SimpleNamespace

import pytest

from randcond.jobs.errors import UserError
from randcond.prompts.endpoint import endpoint_writer, estimate
from randcond.settings.large import Endpoint

KEY = "sk-very-secret"
SETTINGS = SimpleNamespace(count=100, examples=4, temperature=0.9, top_p=0.95)
Answers = list[tuple[int, dict[str, str], str]]


class Service:
    """Answers requests with what it was told, one after another, and keeps what it was asked."""

    def __init__(self) -> None:
        self.answers: Answers = []
        self.asked: list[tuple[str, dict[str, str], dict]] = []
        service = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                service.asked.append((self.path, dict(self.headers), body))
                status, headers, text = service.answers.pop(0)
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(text.encode())

            do_GET = do_POST  # noqa: N815

            def log_message(self, *_: object) -> None:
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1"


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    monkeypatch.setenv("WRITER_KEY", KEY)
    running = Service()
    yield running
    running.server.shutdown()
    running.server.server_close()


def endpoint(service: Service, **changes: object) -> Endpoint:
    values = {"url": service.url, "model": "m", "key_variable": "WRITER_KEY", "lines": 5}
    return Endpoint(**values | changes)


def answer(*lines: str) -> tuple[int, dict[str, str], str]:
    return 200, {}, json.dumps({"choices": [{"message": {"content": "\n".join(lines)}}]})


def writer(
    service: Service, pauses: list[float], clock: Callable[[], float] = lambda: 0.0, **changes: object
) -> Callable:
    return endpoint_writer(endpoint(service, **changes), SETTINGS, 0, ["a dog"], pauses.append, clock)


def test_asks_and_splits_lines(service: Service) -> None:
    service.answers = [answer("A dog on a hill", "", "2. A cat")]
    assert writer(service, [])("- a dog\n", [], 7) == ["A dog on a hill", "2. A cat"]
    ((path, headers, body),) = service.asked
    assert path == "/v1/chat/completions"
    assert headers["Authorization"] == f"Bearer {KEY}"
    assert (body["model"], body["seed"]) == ("m", 7)
    assert "5 captions" in body["messages"][0]["content"]
    assert "- a dog" in body["messages"][0]["content"]


def test_tries_again_and_waits_as_asked(service: Service, caplog: pytest.LogCaptureFixture) -> None:
    logging.getLogger("randcond").propagate = True
    caplog.set_level(logging.DEBUG)
    service.answers = [(429, {"Retry-After": "17"}, ""), (503, {}, KEY), answer("a cat")]
    pauses: list[float] = []
    assert writer(service, pauses)("- a dog\n", [], 0) == ["a cat"]
    assert pauses == [0.0, 17.0, 2.0]
    assert caplog.text
    assert KEY not in caplog.text


def test_gives_up_in_one_line(service: Service) -> None:
    service.answers = [(500, {}, "")] * 6
    with pytest.raises(UserError, match="no answer after 6 tries"):
        writer(service, [])("- a dog\n", [], 0)


def test_keeps_to_the_rate(service: Service) -> None:
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
        ((401, {}, ""), "WRITER_KEY"),
        ((400, {}, f"bad request with {KEY}"), "refuses the request"),
        ((302, {"Location": "/elsewhere"}, ""), "302"),
        ((200, {}, "<html>"), "no chat completion"),
        ((200, {}, '{"choices": []}'), "no chat completion"),
    ],
)
def test_refusals_are_one_line_without_the_key(service: Service, reply: tuple, named: str) -> None:
    service.answers = [reply]
    with pytest.raises(UserError, match=named) as caught:
        writer(service, [])("- a dog\n", [], 0)
    assert KEY not in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(service.asked) == 1  # neither tried again nor followed elsewhere with the key


def test_the_price_comes_first(service: Service) -> None:
    dear = endpoint(service, dollars_per_million_output=1e6, most_dollars=5.0)
    requests, minutes, dollars = estimate(dear, SETTINGS, 0, ["a dog"])
    assert requests == round(100 / (5 * 0.7))
    assert minutes == requests / 60
    assert dollars == pytest.approx(requests * 5 * 25)
    assert estimate(dear, SETTINGS, 20, ["a dog"])[0] == requests - 20
    with pytest.raises(UserError, match=r"most_dollars: about .* dollars for 100 captions"):
        endpoint_writer(dear, SETTINGS, 0, ["a dog"])
    assert service.asked == []


def test_no_key(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WRITER_KEY")
    with pytest.raises(UserError, match="WRITER_KEY"):
        endpoint_writer(endpoint(service), SETTINGS, 0, [])
