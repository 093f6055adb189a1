"""A server on this machine for whatever talks to one: it serves files in ranges, or gives the answers it was told."""

import hashlib
import threading
from dataclasses import dataclass, field
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass(frozen=True)
class Asked:
    """A request that came."""

    method: str
    path: str
    headers: Message
    body: bytes = b""


@dataclass(frozen=True)
class Answer:
    """An answer as it goes over the line: nothing is added, so that it may break off or contradict itself."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: str | bytes = b""


class Server:
    """Answers with ``answers`` in turn, then with ``files``; plays the hub for repositories, gated or unknown.

    Attributes:
        url: Its address.
        files: Path -> content, served in ranges, with an ETag that ``If-Range`` is compared with.
        answers: What is answered first, whatever is asked.
        cuts: Ends at which the next answers with a file break off.
        asked: The requests so far.
    """

    def __init__(self) -> None:
        self.reset()
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                server.asked.append(Asked(self.command, self.path, self.headers, self.rfile.read(length)))
                answer = server.answers.pop(0) if server.answers else server._file(self.path, self.headers)
                self.send_response(answer.status)
                for name, value in answer.headers.items():
                    self.send_header(name, value)
                self.end_headers()
                if self.command != "HEAD":
                    body, cuts = answer.body, server.cuts
                    whole = body.encode() if isinstance(body, str) else body
                    self.wfile.write(whole[: cuts.pop(0)] if cuts else whole)

            do_HEAD = do_POST = do_GET  # noqa: N815

            def log_message(self, *_: object) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._http.server_port}"
        threading.Thread(target=self._http.serve_forever, daemon=True).start()

    def reset(self) -> None:
        """Forget all that a test has told it."""
        self.files: dict[str, bytes] = {}
        self.answers: list[Answer] = []
        self.cuts: list[int] = []
        self.asked: list[Asked] = []

    def stop(self) -> None:
        """Serve no more."""
        self._http.shutdown()
        self._http.server_close()

    def ranges(self) -> list[str | None]:
        """The ranges that were asked for."""
        return [one.headers.get("Range") for one in self.asked]

    def _file(self, path: str, headers: Message) -> Answer:
        for start, status, code in (("/gated", 403, "GatedRepo"), ("/unknown", 404, "RepoNotFound")):
            if path.startswith(start):
                return Answer(status, {"X-Error-Code": code, "Content-Length": "0"})
        if path not in self.files:
            return Answer(404, {"X-Error-Code": "EntryNotFound", "Content-Length": "0"})
        content, first = self.files[path], 0
        etag = f'"{hashlib.sha256(content).hexdigest()}"'
        if headers.get("If-Range", etag) == etag and (wanted := headers.get("Range")):
            first = int(wanted.removeprefix("bytes=").split("-")[0])
        found = {"Content-Length": str(len(content) - first), "ETag": etag, "X-Repo-Commit": COMMIT}
        if first:
            found["Content-Range"] = f"bytes {first}-{len(content) - 1}/{len(content)}"
        return Answer(206 if first else 200, found, content[first:])
