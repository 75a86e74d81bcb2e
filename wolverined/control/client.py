# SPDX-License-Identifier: MIT
"""A thin blocking client of the control socket: enough HTTP/1.1 for our own server.

Made for `wolverinectl status`, which has 60 ms with the interpreter's start: no http.client, ssl,
asyncio, pathlib or msgspec here. One connection a request; a stream is a connection of its own.
"""

from __future__ import annotations

import errno
import json
import os
import socket
import struct
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Any, Self

from wolverined import errors
from wolverined.control.address import SOCKET_NAME, short_path

ANSWER_MAX_BYTES = 256 * 1024 * 1024
TIMEOUT_S = 20.0  # of a plain answer: the daemon never waits, so it hangs when it does not answer
_READ_BYTES = 64 * 1024


class Client:
    """Talks to the daemon of one instance.

    Args:
        directory: The instance's runtime directory, which holds `control.sock`.
        timeout_s: How long a plain answer may take.
    """

    def __init__(self, directory: str, *, timeout_s: float = TIMEOUT_S) -> None:
        self.directory = directory
        self._path = os.path.join(directory, SOCKET_NAME)  # noqa: PTH118  (pathlib is not imported here)
        self._timeout_s = timeout_s

    def get(self, path: str, *, extra_s: float = 0.0) -> Any:
        """The result of `GET path`; `extra_s` is what the server was asked to wait."""
        return self._whole("GET", path, None, {}, extra_s)["result"]

    def post(self, path: str, body: Mapping[str, Any] | None = None, *, idempotency_key: str = "") -> dict[str, Any]:
        """Begin an operation; its change as the server described it."""
        headers = {"Idempotency-Key": idempotency_key} if idempotency_key else {}
        change = self._whole("POST", path, body or {}, headers, 0.0)["result"]
        assert isinstance(change, dict)
        return change

    def pending(self, path: str, *, extra_s: float) -> Pending:
        """Ask for `GET path` and do not wait: `fileno` is readable when the answer comes."""
        answer = _Answer(self._connect(self._timeout_s + extra_s))
        try:
            answer.send("GET", path, None, {})
        except BaseException:
            answer.close()
            raise
        return Pending(answer)

    def stream(self, path: str) -> Stream:
        """Begin to follow `path`; close the stream when done."""
        answer = _Answer(self._connect(self._timeout_s))
        try:
            answer.send("GET", path, None, {})
            answer.begin_stream()
        except BaseException:
            answer.close()
            raise
        return Stream(answer)

    def _whole(
        self, method: str, path: str, body: Mapping[str, Any] | None, headers: Mapping[str, str], extra_s: float
    ) -> dict[str, Any]:
        answer = _Answer(self._connect(self._timeout_s + extra_s))
        try:
            answer.send(method, path, body, headers)
            return answer.envelope()
        finally:
            answer.close()

    def _connect(self, timeout_s: float) -> socket.socket:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        # A connect that must not block fails at once when the backlog is full; one that may block waits
        # its turn, for as long as the kernel is told (socket(7)).
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", int(timeout_s) + 1, 0))
        try:
            with short_path(self._path) as address:
                sock.connect(address)
        except BlockingIOError as error:
            sock.close()
            raise _silent() from error
        except OSError as error:
            sock.close()
            raise self._explained(error) from error
        sock.settimeout(timeout_s)
        return sock

    def _explained(self, error: OSError) -> errors.WolverineError:
        if error.errno in {errno.EACCES, errno.EPERM}:
            return errors.AccessDenied(
                f"you may not open {self._path}",
                hint='join a group that may: sudo usermod -aG wolverine-view "$USER" (wolverine-admin to act), '
                "then log in again",
            )
        why = "nobody listens on" if error.errno in {errno.ECONNREFUSED, errno.ENOENT} else f"{error.strerror}:"
        return errors.Unreachable(f"wolverined does not answer: {why} {self._path}", hint="is it running?")


class Pending:
    """An answer that is waited for together with something else; a context manager."""

    def __init__(self, answer: _Answer) -> None:
        self._answer = answer

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._answer.close()

    def fileno(self) -> int:
        """For select."""
        return self._answer.fileno()

    def result(self) -> Any:
        """The result; waits for what has not come yet."""
        return self._answer.envelope()["result"]


class Stream:
    """Records of an endless answer; a context manager and an iterator."""

    def __init__(self, answer: _Answer) -> None:
        self._answer = answer
        self._rest = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Every record until the server ends the stream; Unreachable when it is silent or cut off."""
        self._answer.wait_at_most(None)
        while data := self._answer.chunk():
            yield from self._records(data)

    def ready(self) -> list[dict[str, Any]]:
        """What has come by now; call it when `fileno` is readable. Raises EOFError at the end."""
        records: list[dict[str, Any]] = []
        while True:
            data = self._answer.chunk()
            if not data:
                raise EOFError
            records += self._records(data)
            # Whole chunks that were read already make no fd readable: take them now.
            if not self._answer.has_chunk():
                return records

    def fileno(self) -> int:
        """For select."""
        return self._answer.fileno()

    def close(self) -> None:
        """Leave."""
        self._answer.close()

    def _records(self, data: bytes) -> Iterator[dict[str, Any]]:
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            yield json.loads(line)


class _Answer:
    """One request and the reading of its answer; every way that a peer can break it is Unreachable."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._buffer = b""
        self._headers: dict[str, str] = {}
        self.status = 0

    def send(self, method: str, path: str, body: Mapping[str, Any] | None, headers: Mapping[str, str]) -> None:
        payload = json.dumps(body).encode() if body is not None else b""
        lines = [
            f"{method} {path} HTTP/1.1",
            "Host: localhost",
            *(f"{name}: {value}" for name, value in headers.items()),
        ]
        if body is not None:
            lines += ["Content-Type: application/json", f"Content-Length: {len(payload)}"]
        head = "\r\n".join([*lines, "Connection: close", "", ""]).encode("ascii")
        try:
            self._sock.sendall(head + payload)
        except (BrokenPipeError, ConnectionResetError):
            pass  # refused before it was read: the reason stands in the answer
        except TimeoutError as error:
            raise _silent() from error

    def envelope(self) -> dict[str, Any]:
        """The whole answer; an error is raised as what it was in the daemon."""
        self._head()
        envelope = self._json()
        if envelope.get("type") == "error":
            _raise(envelope)
        return envelope

    def begin_stream(self) -> None:
        """Read up to where the records begin; an error is raised."""
        self._head()
        if self.status != 200:  # noqa: PLR2004
            _raise(self._json())
        if self._headers.get("transfer-encoding", "").lower() != "chunked":
            raise _nonsense()

    def has_chunk(self) -> bool:
        """Whether `chunk` would not wait."""
        size_text, line_end, rest = self._buffer.partition(b"\r\n")
        return bool(line_end) and len(rest) >= _chunk_size(size_text) + 2

    def _head(self) -> None:
        while b"\r\n\r\n" not in self._buffer:
            self._more()
        head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        words = first.split(" ", 2)
        if len(words) < 2 or not words[0].startswith("HTTP/1.") or not words[1].isdigit():  # noqa: PLR2004
            raise _nonsense()
        self.status = int(words[1])
        for line in lines:
            name, _, value = line.partition(":")
            self._headers[name.strip().lower()] = value.strip()

    def _json(self) -> dict[str, Any]:
        length = self._headers.get("content-length", "")
        if not length.isdigit() or int(length) > ANSWER_MAX_BYTES:
            raise _nonsense()
        parts, have = [self._buffer], len(self._buffer)
        while have < int(length):
            self._buffer = b""
            self._more()
            parts.append(self._buffer)
            have += len(self._buffer)
        try:
            value = json.loads(b"".join(parts))
        except ValueError as error:
            raise _nonsense() from error
        if not isinstance(value, dict) or "result" not in value:
            raise _nonsense()
        return value

    def chunk(self) -> bytes:
        """The next piece of a chunked answer; empty at its end."""
        while b"\r\n" not in self._buffer:
            self._more()
        size_text, _, self._buffer = self._buffer.partition(b"\r\n")
        size = _chunk_size(size_text)
        while len(self._buffer) < size + 2:
            self._more()
        data, self._buffer = self._buffer[:size], self._buffer[size + 2 :]
        return data

    def wait_at_most(self, timeout_s: float | None) -> None:
        self._sock.settimeout(timeout_s)

    def fileno(self) -> int:
        return self._sock.fileno()

    def close(self) -> None:
        self._sock.close()

    def _more(self) -> None:
        try:
            data = self._sock.recv(_READ_BYTES)
        except TimeoutError as error:
            raise _silent() from error
        except ConnectionError:
            data = b""
        if not data:
            raise errors.Unreachable("wolverined closed the connection", hint="it may be restarting; try again")
        self._buffer += data


def _chunk_size(text: bytes) -> int:
    try:
        size = int(text, 16)
    except ValueError as error:
        raise _nonsense() from error
    if not 0 <= size <= ANSWER_MAX_BYTES:
        raise _nonsense()
    return size


def _silent() -> errors.WolverineError:
    return errors.Unreachable("wolverined accepts connections but does not answer", hint="it hangs; see its log")


def _nonsense() -> errors.WolverineError:
    return errors.Unreachable("what listens there does not speak wolverined's protocol", hint="is the directory right?")


def _raise(envelope: Mapping[str, Any]) -> None:
    """Raise the error of an answer as what it was in the daemon."""
    result = envelope.get("result")
    told: Mapping[str, Any] = result if isinstance(result, dict) else {}
    raise error_of(str(told.get("kind", "failed")), str(told.get("message", "failed")), str(told.get("hint", "")))


def error_of(kind: str, message: str, hint: str) -> errors.WolverineError:
    """The error of the one tree that has this `kind`; an unknown kind is a plain failure that keeps its word."""
    for known in vars(errors).values():
        if isinstance(known, type) and issubclass(known, errors.WolverineError) and known.kind == kind:
            return known(message, hint=hint)
    error = errors.WolverineError(message, hint=hint)
    error.kind = kind
    return error
