# SPDX-License-Identifier: MIT
"""aiohttp.web: its protocol object is the layer that sees a request and its answer whole."""

from __future__ import annotations

import functools

from . import crash, seen, tally

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_SERVER_ERROR = 500


def protocol(module: Any) -> None:
    """Patch the handling of one request, and where an error becomes an answer."""
    handler = module.RequestHandler
    handle, fail = handler._handle_request, handler.handle_error  # noqa: SLF001 - both return past what was raised

    @functools.wraps(handle)
    async def handle_request(self: Any, request: Any, *args: Any, **kwargs: Any) -> Any:
        mine = seen.Seen(request.method, request.rel_url.path, request, _copy)
        if not tally.tally.beat_at:
            tally.watch_loop()
        token = seen.current.set(mine)
        try:
            result = await handle(self, request, *args, **kwargs)
        except BaseException as error:
            _take_rule(mine, request)
            # That the answer had begun already is aiohttp's trouble; what the application raised is told.
            mine.finish(mine.error if mine.sure else error)
            raise
        finally:
            seen.current.reset(token)
        _end(mine, request, result)
        return result

    @functools.wraps(fail)
    def handle_error(self: Any, request: Any, status: int = 500, exc: Any = None, *args: Any, **kwargs: Any) -> Any:
        if exc is not None:
            seen.note(exc)
        else:
            seen.note_current(sure=True)
        return fail(self, request, status, exc, *args, **kwargs)

    handler._handle_request, handler.handle_error = handle_request, handle_error  # noqa: SLF001


def response(module: Any) -> None:
    """An answer of 500 and above that is made in an `except` has that error for its cause."""
    base = module.Response
    make = base.__init__

    @functools.wraps(make)
    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        make(self, *args, **kwargs)
        if self.status >= _SERVER_ERROR:
            seen.note_current()

    base.__init__ = init


def _end(mine: seen.Seen, request: Any, result: Any) -> None:
    try:
        answer, gone = result
        _take_rule(mine, request)
        mine.status = answer.status
        if isinstance(answer, Exception):  # aiohttp's HTTPException: raised, and the answer at once
            mine.note(answer)
        if gone:
            mine.error = None
        mine.finish()
    except Exception:
        mine.finish()  # another version's result; it is answered already


def _take_rule(mine: seen.Seen, request: Any) -> None:
    route = getattr(getattr(request, "match_info", None), "route", None)
    resource = getattr(route, "resource", None)
    mine.rule = getattr(resource, "canonical", None)


def _copy(mine: seen.Seen) -> dict[str, Any]:
    request = mine.source
    data = getattr(request, "_read_bytes", None)
    body = seen.Body(request.content_length or 0)
    # Only what was read whole is kept by aiohttp; whether there is more, the head tells.
    body.whole = data is not None or not request.body_exists
    body.see(bytes(data or b""))
    return crash.request_copy(mine.method, request.raw_path, list(request.headers.items()), body.text())
