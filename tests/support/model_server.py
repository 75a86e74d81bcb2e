# SPDX-License-Identifier: MIT
"""A scripted server that speaks enough of the OpenAI API to be asked, on loopback, and misbehaves on demand.

    with ModelServer() as server:
        server.script(status(429, retry_after=1), answer("ROOT: ..."))
        ...
        assert server.requests[0].body["model"] == "m"

Each request takes the next reply of the script; the last one repeats. A reply may be a function of the
request. Leaving the context frees every request that hangs and joins every thread.
"""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple, Self

WAIT_S = 30.0


class Recorded(NamedTuple):
    """One request as it came."""

    method: str
    path: str
    headers: dict[str, str]
    body: dict[str, Any]

    @property
    def prompt(self) -> str:
        """All message texts of a chat request."""
        return "\n".join(str(message.get("content", "")) for message in self.body.get("messages", []))


class Reply(NamedTuple):
    """What goes back: status, headers, body in pieces, the pause before each piece, and what is promised."""

    code: int = 200
    headers: tuple[tuple[str, str], ...] = ()
    pieces: tuple[bytes, ...] = ()
    pause_s: float = 0.0
    length: int | None = None
    silent: bool = False


Scripted = Reply | Callable[[Recorded], Reply]


def completion(
    text: str | None, *, finish_reason: str | None = "stop", usage: tuple[int, int] | None = (100, 50), model: str = "m"
) -> dict[str, Any]:
    """The JSON of a chat completion; finish_reason None leaves the field out."""
    choice: dict[str, Any] = {"index": 0, "message": {"role": "assistant", "content": text}}
    if finish_reason is not None:
        choice["finish_reason"] = finish_reason
    body: dict[str, Any] = {"id": "c-1", "object": "chat.completion", "created": 1, "model": model, "choices": [choice]}
    if usage is not None:
        prompt, out = usage
        body["usage"] = {"prompt_tokens": prompt, "completion_tokens": out, "total_tokens": prompt + out}
    return body


def answer(
    text: str | None, *, finish_reason: str | None = "stop", usage: tuple[int, int] | None = (100, 50), model: str = "m"
) -> Reply:
    """A good answer, or one without finish_reason, with finish_reason "length", without usage."""
    return raw(json.dumps(completion(text, finish_reason=finish_reason, usage=usage, model=model)).encode())


def raw(body: bytes, *, code: int = 200, headers: tuple[tuple[str, str], ...] = ()) -> Reply:
    """Any bytes as JSON: malformed, of another shape, empty."""
    return Reply(code=code, pieces=(body,), headers=(("Content-Type", "application/json"), *headers))


def status(code: int, *, retry_after: float | str | None = None, error: str = "", message: str = "no") -> Reply:
    """An error answer: 401, 429 with Retry-After, 500, 400 with an error code such as insufficient_quota."""
    body = {"error": {"message": message, "type": error or "error", "code": error or None, "param": None}}
    headers = (("Retry-After", f"{retry_after}"),) if retry_after is not None else ()
    return raw(json.dumps(body).encode(), code=code, headers=headers)


def redirect(url: str) -> Reply:
    """A redirect that keeps the method and the body."""
    return Reply(code=307, headers=(("Location", url),))


def hang() -> Reply:
    """Take the request and never answer."""
    return Reply(silent=True)


def slow(text: str, *, pause_s: float = 0.05, pieces: int = 10) -> Reply:
    """A good answer in small pieces with a pause before each."""
    whole = answer(text).pieces[0]
    size = max(1, len(whole) // pieces)
    cut = tuple(whole[at : at + size] for at in range(0, len(whole), size))
    return answer(text)._replace(pieces=cut, pause_s=pause_s)


def cut(text: str) -> Reply:
    """An answer whose connection ends in the middle of the body."""
    whole = answer(text).pieces[0]
    return answer(text)._replace(pieces=(whole[: len(whole) // 2],), length=len(whole))


def huge(size: int, *, honest: bool = True) -> Reply:
    """An answer of that many bytes; a dishonest one does not say how long it is."""
    piece = b" " * 65536
    return Reply(
        pieces=(piece,) * (size // len(piece) + 1),
        headers=(("Content-Type", "application/json"),),
        length=None if honest else -1,
    )


class ModelServer:
    """The server; see the module. `url` is what goes into OPENAI_BASE_URL; port 0: any that is free."""

    def __init__(self, *, port: int = 0) -> None:
        self.requests: list[Recorded] = []
        self._script: list[Scripted] = [status(500, message="the test gave no script")]
        self._turn = threading.Condition()
        self._closing = threading.Event()
        self._server = _Server(("127.0.0.1", port), _handler_for(self))
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def script(self, *replies: Scripted) -> None:
        """Set what the next requests get, in order; the last one repeats."""
        with self._turn:
            self._script = list(replies)

    def wait_for(self, count: int, *, timeout_s: float = WAIT_S) -> list[Recorded]:
        """Wait until so many requests have come; give all of them."""
        with self._turn:
            assert self._turn.wait_for(lambda: len(self.requests) >= count, timeout_s), "requests did not come"
            return list(self.requests)

    def _next(self, request: Recorded) -> Reply:
        with self._turn:
            self.requests.append(request)
            self._turn.notify_all()
            scripted = self._script.pop(0) if len(self._script) > 1 else self._script[0]
        return scripted if isinstance(scripted, Reply) else scripted(request)

    def _pause(self, seconds: float) -> None:
        self._closing.wait(seconds)


class _Server(ThreadingHTTPServer):
    daemon_threads = False
    block_on_close = True


def _handler_for(server: ModelServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        """One request: record it, answer by the script. HTTP/1.0, so that no idle connection holds a thread."""

        timeout = WAIT_S

        def do_POST(self) -> None:
            """Answer a call."""
            length = int(self.headers.get("Content-Length", "0"))
            try:
                body = json.loads(self.rfile.read(length) or b"{}")
            except ValueError:
                body = {}
            headers = {name.lower(): value for name, value in self.headers.items()}
            self._answer(server._next(Recorded(self.command, self.path, headers, body)))

        def log_message(self, *_: object) -> None:
            """Say nothing: the test looks at `requests`."""

        def _answer(self, reply: Reply) -> None:
            with _peer_may_leave():
                if reply.silent:
                    server._pause(WAIT_S)
                    return
                self.send_response(reply.code)
                for name, value in reply.headers:
                    self.send_header(name, value)
                length = sum(map(len, reply.pieces)) if reply.length is None else reply.length
                if length >= 0:
                    self.send_header("Content-Length", str(length))
                self.end_headers()
                for piece in reply.pieces:
                    if reply.pause_s:
                        server._pause(reply.pause_s)
                    self.wfile.write(piece)

    return Handler


@contextlib.contextmanager
def _peer_may_leave() -> Iterator[None]:
    """A client that has gone is what many tests are about."""
    with contextlib.suppress(ConnectionError, TimeoutError):
        yield
