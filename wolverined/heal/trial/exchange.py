# SPDX-License-Identifier: MIT
"""One HTTP request to the candidate, as a thing for poll: it never waits, and believes nothing.

The answer comes from code on trial: it may be endless, broken or never come; sizes are bounded here,
time by whoever polls.
"""

from __future__ import annotations

import errno
import re
import select
import socket
from urllib.parse import quote

import h11

from wolverined.model import Request

MAX_BODY = 1024 * 1024
CHUNK = 64 * 1024
_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_OURS = frozenset(
    {
        "accept-encoding",  # the shape of a body must be readable
        "connection",
        "content-length",
        "expect",
        "keep-alive",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)


class Connecting:
    """A TCP connection on its way to `port` on loopback; `host` is "127.0.0.1" or "::1"."""

    def __init__(self, host: str, port: int) -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        error = self.sock.connect_ex((host, port))
        self._result = None if error in {0, errno.EINPROGRESS} else False

    def result(self) -> bool | None:
        """True: connected; False: refused or lost; None: not yet. What was said once stays."""
        if self._result is None:
            poll = select.poll()
            poll.register(self.sock, select.POLLOUT)
            if poll.poll(0):
                # Reading SO_ERROR clears it: a second look would take a refusal for a connection.
                self._result = self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0
        return self._result


class Exchange:
    """One request and its answer over a connection of its own.

    Attributes:
        done: Nothing more will come.
        status: The answer's, when it came whole (or its body was cut at MAX_BODY); else None.
        failure: Why there is no whole answer, in words.
    """

    def __init__(self, request: Request, *, host: str, port: int) -> None:
        self._connecting = Connecting(host, port)
        self._http = h11.Connection(h11.CLIENT, max_incomplete_event_size=CHUNK)
        self._out = _encode(self._http, request, port)
        self._connected = False
        self._head: h11.Response | None = None
        self._body = bytearray()
        self.done = False
        self.status: int | None = None
        self.content_type = ""
        self.failure = ""

    @property
    def body(self) -> bytes:
        """What came of the body, at most MAX_BODY bytes."""
        return bytes(self._body[:MAX_BODY])

    def fileno(self) -> int:
        """For poll."""
        return self._connecting.sock.fileno()

    @property
    def events(self) -> int:
        """What to poll for."""
        return select.POLLIN if self._connected and not self._out else select.POLLIN | select.POLLOUT

    def advance(self) -> None:
        """Go on as far as it goes without waiting."""
        try:
            if not self._connected:
                result = self._connecting.result()
                if result is None:
                    return
                if not result:
                    self._end("connection refused")
                    return
                self._connected = True
            if self._out:
                self._out = self._out[self._connecting.sock.send(self._out, socket.MSG_NOSIGNAL) :]
            while not self.done:
                self._take(self._connecting.sock.recv(CHUNK))
        except BlockingIOError:
            return
        except h11.RemoteProtocolError as error:
            self._end(f"no whole answer: {error}")
        except OSError as error:
            self._end(f"connection lost: {error.strerror}")

    def close(self) -> None:
        """Give the socket back; may be called twice."""
        self._connecting.sock.close()

    def _take(self, data: bytes) -> None:
        if not data and self._head is None:
            self._end("the connection was closed without an answer")
            return
        self._http.receive_data(data)
        while not self.done:
            event = self._http.next_event()
            if event is h11.NEED_DATA or event is h11.PAUSED:
                return
            if isinstance(event, h11.Response):
                self._head = event
                kinds = [value for name, value in event.headers if name == b"content-type"]
                self.content_type = kinds[0].decode("latin-1")[:200] if kinds else ""
            elif isinstance(event, h11.Data):
                self._body += event.data
                if len(self._body) > MAX_BODY:
                    self._end("")
            elif isinstance(event, h11.EndOfMessage | h11.ConnectionClosed):
                self._end("" if self._head is not None else "the connection was closed without an answer")

    def _end(self, failure: str) -> None:
        self.done = True
        self.failure = failure
        if not failure and self._head is not None:
            self.status = self._head.status_code
        self.close()


def _encode(http: h11.Connection, request: Request, port: int) -> bytes:
    """The request's bytes; what cannot stand in HTTP is percent-encoded (path) or left out (headers)."""
    body = request.body.encode("utf-8", "surrogatepass")
    headers: list[tuple[bytes, bytes]] = []
    names: set[str] = set()
    for name, value in request.headers.items():
        plain = name.lower()
        if plain in _OURS or plain in names or not _TOKEN.fullmatch(name):
            continue
        names.add(plain)
        headers.append((plain.encode(), _header_value(value)))
    if "host" not in names:
        headers.append((b"host", f"localhost:{port}".encode()))
    headers += [(b"accept-encoding", b"identity"), (b"connection", b"close")]
    if body or request.method.upper() in {"POST", "PUT", "PATCH"}:
        headers.append((b"content-length", str(len(body)).encode()))
    method = request.method if _TOKEN.fullmatch(request.method) else "GET"
    out = http.send(h11.Request(method=method, target=_target(request.path), headers=headers)) or b""
    if body:
        out += http.send(h11.Data(data=body)) or b""
    return out + (http.send(h11.EndOfMessage()) or b"")


def _header_value(value: str) -> bytes:
    return re.sub(rb"[\x00-\x08\x0a-\x1f\x7f]", b"", value.encode("utf-8", "replace")).strip()


def _target(path: str) -> bytes:
    path = path.partition("#")[0]
    if not path.startswith("/"):
        path = "/" + path.partition("://")[2].partition("/")[2]
    return quote(path.encode("utf-8", "replace"), safe="/?&=%:@!$'()*+,;~[]|-._").encode()
