# SPDX-License-Identifier: MIT
"""WSGI: Flask, `wsgiref`, and any application under gunicorn.

The outermost call of an application is a request. What Flask catches is seen where it looks for a
handler of the error, and an answer that is built while an error is being handled has that for its cause.
"""

from __future__ import annotations

import functools
from urllib.parse import quote

from . import crash, seen

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

_SERVER_ERROR = 500


def flask(module: Any) -> None:
    """Patch Flask."""
    application = module.Flask
    application.__call__ = method(application.__call__)
    find = application._find_error_handler  # noqa: SLF001 - what it catches passes here, and the error goes on outside

    @functools.wraps(find)
    def find_error_handler(self: Any, error: Any, *args: Any, **kwargs: Any) -> Any:
        # For whoever handles a 500 Flask wraps what was raised.
        seen.note(getattr(error, "original_exception", None) or error)
        return find(self, error, *args, **kwargs)

    application._find_error_handler = find_error_handler  # noqa: SLF001


def werkzeug(module: Any) -> None:
    """An answer that is made in an `except` has that error for its cause, should it be a 500 in the end."""
    response = module.Response
    make = response.__init__

    @functools.wraps(make)
    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        make(self, *args, **kwargs)
        seen.note_current()

    response.__init__ = init


def wsgiref(module: Any) -> None:
    """Patch the handler of the standard library; it catches what the application raises."""
    handler = module.BaseHandler
    close, log = handler.close, handler.log_exception

    @functools.wraps(close)
    def patched_close(self: Any) -> Any:
        mine = seen.current.get()
        status = str(self.status or "")[:3]
        if mine is not None and status.isdecimal():
            mine.answer(int(status))
            mine.finish()
        return close(self)

    @functools.wraps(log)
    def log_exception(self: Any, info: Any) -> Any:
        mine = seen.current.get()
        if mine is not None:
            mine.note(info[1])
            if self.headers_sent:
                mine.finish(info[1])
        return log(self, info)

    handler.close, handler.log_exception = patched_close, log_exception


def method(call: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap the `__call__` of a class of applications."""

    @functools.wraps(call)
    def __call__(self: Any, environ: Any, start_response: Any) -> Any:  # noqa: N807 - it stands in for one
        __traceback_hide__ = True  # debuggers that show frames to a browser leave ours out
        mine = seen.current.get()
        if mine is None:
            return _outer(functools.partial(call, self), environ, start_response)
        if type(mine.source) is dict:
            return call(self, environ, start_response)
        return _inner(mine, functools.partial(call, self), environ, start_response)

    return __call__


def function(application: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap one application."""

    def wolverine_application(environ: Any, start_response: Any) -> Any:
        __traceback_hide__ = True
        if seen.current.get() is not None:
            return application(environ, start_response)
        return _outer(application, environ, start_response)

    return wolverine_application


def _outer(application: Callable[..., Any], environ: Any, start_response: Any) -> Any:
    __traceback_hide__ = True
    try:
        mine = _begin(environ)
    except Exception:
        return application(environ, start_response)  # no environ as the standard has it

    def wolverine_start(status: Any, headers: Any, *info: Any) -> Any:
        try:
            mine.answer(int(status[:3]))
            _take_rule(mine, environ)
        except Exception:  # noqa: S110 - no status line: the server will say so
            pass
        return start_response(status, headers, *info)

    token = seen.current.set(mine)
    try:
        result = application(environ, wolverine_start)
    except BaseException as error:
        mine.finish(error)
        raise
    finally:
        seen.current.reset(token)
    if mine.status >= _SERVER_ERROR:
        mine.tell()
    if _is_whole(result, environ):
        mine.finish()
        return result
    return Answer(mine, result)


def _inner(mine: seen.Seen, application: Callable[..., Any], environ: Any, start_response: Any) -> Any:
    """A call below `http.server`, which knows the answer's head and nothing of what goes wrong after it."""
    __traceback_hide__ = True

    def wolverine_start(status: Any, headers: Any, *info: Any) -> Any:
        _take_rule(mine, environ)
        return start_response(status, headers, *info)

    result = application(environ, wolverine_start)
    return result if _is_whole(result, environ) else Answer(mine, result, counts=False)


def _is_whole(result: Any, environ: dict[str, Any]) -> bool:
    """Whether nothing can go wrong in an answer any more, or the server wants to see what it is."""
    return hasattr(type(result), "__len__") or isinstance(result, environ.get("wsgi.file_wrapper") or ())


class Answer:
    """A body that is made while it is sent; `counts`: with its end the request is over."""

    __slots__ = ("_close", "_counts", "_mine", "_next", "_result")

    def __init__(self, mine: seen.Seen, result: Any, *, counts: bool = True) -> None:
        self._mine = mine
        self._counts = counts
        self._result = result
        self._next: Any = None
        self._close = getattr(result, "close", None)

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        __traceback_hide__ = True
        try:
            if self._next is None:
                self._next = iter(self._result).__next__
            part: bytes = self._next()
        except StopIteration:
            if self._counts:
                self._mine.finish()
            raise
        except BaseException as error:
            self._mine.finish(error)
            raise
        return part

    def close(self) -> None:
        """Close what the application gave."""
        try:
            if self._close is not None:
                self._close()
        except BaseException as error:
            self._mine.finish(error)
            raise
        if self._counts:
            self._mine.finish()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._result, name)


def _begin(environ: dict[str, Any]) -> seen.Seen:
    path = environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", "")
    mine = seen.Seen(environ["REQUEST_METHOD"], path, environ, _copy)
    length = environ.get("CONTENT_LENGTH")
    if length or "HTTP_TRANSFER_ENCODING" in environ:
        mine.body = seen.Body(int(length) if length and length.isdecimal() else 0)
        environ["wsgi.input"] = seen.Tap(environ["wsgi.input"], mine.body.see)
    return mine


def _take_rule(mine: seen.Seen, environ: dict[str, Any]) -> None:
    """Flask's rule, while it is there: it goes when the request's context is left."""
    rule = getattr(environ.get("werkzeug.request"), "url_rule", None)
    if rule is not None and mine.rule is None:
        mine.rule = getattr(rule, "rule", None)


def _copy(mine: seen.Seen) -> dict[str, Any]:
    environ: dict[str, Any] = mine.source
    target = environ.get("RAW_URI") or environ.get("REQUEST_URI")
    if not target:
        query = environ.get("QUERY_STRING")
        target = quote(mine.path.encode("latin-1", "replace")) + (f"?{query}" if query else "")
    headers = [(key[5:].replace("_", "-"), value) for key, value in environ.items() if key.startswith("HTTP_")]
    headers += [(key.replace("_", "-"), environ[key]) for key in ("CONTENT_TYPE", "CONTENT_LENGTH") if environ.get(key)]
    text = [(name, value) for name, value in headers if isinstance(value, str)]
    return crash.request_copy(mine.method, target, text, mine.body.text() if mine.body is not None else ("", False))
