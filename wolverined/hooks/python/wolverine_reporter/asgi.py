# SPDX-License-Identifier: MIT
"""ASGI: Starlette, FastAPI, and any application under uvicorn or gunicorn's worker for it.

The outermost call with an HTTP scope is a request. An answer of 500 and above begins in the `except`
of who caught the error, or is one that Starlette looked up a handler for.
"""

from __future__ import annotations

import functools

from . import crash, seen, tally

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_SERVER_ERROR = 500
_BODILESS = frozenset({"GET", "HEAD", "OPTIONS"})


def starlette(module: Any) -> None:
    """Patch Starlette, and FastAPI, which is one."""
    module.Starlette.__call__ = method(module.Starlette.__call__)


def exception_handler(module: Any) -> None:
    """Every error that Starlette catches passes where it looks for its handler."""
    look = module._lookup_exception_handler  # noqa: SLF001 - the one place that sees the error and is not in its way

    @functools.wraps(look)
    def lookup(handlers: Any, error: Any) -> Any:
        seen.note(error)
        return look(handlers, error)

    module._lookup_exception_handler = lookup  # noqa: SLF001


def responses(module: Any) -> None:
    """An answer of 500 and above that is made in an `except` has that error for its cause."""
    response = module.Response
    make = response.__init__

    @functools.wraps(make)
    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        make(self, *args, **kwargs)
        if self.status_code >= _SERVER_ERROR:
            seen.note_current()

    response.__init__ = init


def method(call: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap the `__call__` of a class of applications."""

    @functools.wraps(call)
    async def __call__(self: Any, scope: Any, receive: Any, send: Any) -> None:  # noqa: N807 - it stands in for one
        __traceback_hide__ = True
        if scope["type"] != "http" or seen.current.get() is not None:
            await call(self, scope, receive, send)
        else:
            await _outer(functools.partial(call, self), scope, receive, send)

    return __call__


def function(application: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap one application."""

    async def wolverine_application(scope: Any, receive: Any, send: Any) -> None:
        __traceback_hide__ = True
        if scope["type"] != "http" or seen.current.get() is not None:
            await application(scope, receive, send)
        else:
            await _outer(application, scope, receive, send)

    return wolverine_application


async def _outer(application: Callable[..., Any], scope: Any, receive: Any, send: Any) -> None:
    __traceback_hide__ = True
    mine = seen.Seen(scope["method"], scope["path"], scope, _copy)
    if not tally.tally.beat_at:
        tally.watch_loop()

    def wolverine_send(message: Any) -> Any:
        if message["type"] == "http.response.start":
            mine.answer(message["status"])
            if mine.status >= _SERVER_ERROR:
                mine.rule = mine.rule or _rule(scope)
                mine.tell()  # who handled it may take its traceback away when it is done
        return send(message)

    if mine.method not in _BODILESS:
        mine.body, receive = _looked_at(receive, scope)
    token = seen.current.set(mine)
    try:
        await application(scope, receive, wolverine_send)
    except BaseException as error:
        mine.rule = mine.rule or _rule(scope)
        mine.finish(error)
        raise
    finally:
        seen.current.reset(token)
    mine.rule = mine.rule or _rule(scope)
    mine.finish()


def _looked_at(receive: Any, scope: Any) -> tuple[seen.Body, Any]:
    length = next((value for name, value in scope["headers"] if name == b"content-length"), b"")
    body = seen.Body(int(length) if length.isdigit() else 0)
    body.whole = not body.length and not any(name == b"transfer-encoding" for name, _ in scope["headers"])

    async def wolverine_receive() -> Any:
        message = await receive()
        if message["type"] == "http.request":
            body.see(message.get("body", b""))
            body.whole = body.whole or not message.get("more_body", False)
        return message

    return body, wolverine_receive


def _rule(scope: Any) -> Any:
    """The pattern of the route, below where its application is mounted; else what was taken out of the path."""
    rule = getattr(scope.get("route"), "path", None)
    values = scope.get("path_params")
    if rule is None or "app_root_path" in scope:
        return dict(values) if values else None
    return rule


def _copy(mine: seen.Seen) -> dict[str, Any]:
    scope: dict[str, Any] = mine.source
    raw = scope.get("raw_path") or mine.path.encode("utf-8", "replace")
    query = scope.get("query_string") or b""
    target = raw.partition(b"?")[0].decode("latin-1") + (f"?{query.decode('latin-1')}" if query else "")
    headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"]]
    return crash.request_copy(mine.method, target, headers, mine.body.text() if mine.body is not None else ("", False))
