# SPDX-License-Identifier: MIT
"""HTTP for the SDK with bounds that it does not have: size of an answer, time of a whole call, no redirects.

A timeout of the client is one of each read, so an endpoint that sends a byte a minute would hold a
heal for ever; a redirect would carry source to an address that no operator wrote down.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import httpx2
import openai

from wolverined.heal.adviser.trouble import Trouble

SECONDS_HEADER = "X-Wolverine-Seconds"
"""Carries a call's time from the client to here; it is taken off before anything is sent."""


def bounded_http(*, connect_s: float, max_bytes: int) -> httpx2.Client:
    """An HTTP client for `openai.OpenAI`."""
    transport = _Bounded(httpx2.HTTPTransport(), max_bytes=max_bytes)
    return openai.DefaultHttpxClient(
        transport=transport, follow_redirects=False, timeout=httpx2.Timeout(None, connect=connect_s)
    )


class _Bounded(httpx2.BaseTransport):
    def __init__(self, inner: httpx2.BaseTransport, *, max_bytes: int) -> None:
        self._inner = inner
        self._max_bytes = max_bytes

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        until = time.monotonic() + float(request.headers.pop(SECONDS_HEADER, "60"))
        response = self._inner.handle_request(request)
        if response.headers.get("content-encoding", "identity") != "identity":
            # Unpacking is where a small answer becomes a huge one; we asked for none.
            response.close()
            raise Trouble("the endpoint packs its answers, which was not asked for")
        assert isinstance(response.stream, httpx2.SyncByteStream)
        response.stream = _BoundedStream(response.stream, max_bytes=self._max_bytes, until=until)
        return response

    def close(self) -> None:
        self._inner.close()


class _BoundedStream(httpx2.SyncByteStream):
    def __init__(self, inner: httpx2.SyncByteStream, *, max_bytes: int, until: float) -> None:
        self._inner = inner
        self._left = max_bytes
        self._until = until

    def __iter__(self) -> Iterator[bytes]:
        for chunk in self._inner:
            self._left -= len(chunk)
            if self._left < 0:
                raise Trouble("the endpoint's answer is far too long")
            if time.monotonic() > self._until:
                raise Trouble("the model did not answer in time", tries=2)
            yield chunk

    def close(self) -> None:
        self._inner.close()
