# SPDX-License-Identifier: MIT
"""Django, under WSGI and ASGI."""

from __future__ import annotations

import functools

from . import asgi, seen, wsgi

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_SERVER_ERROR = 500


def wsgi_handler(module: Any) -> None:
    """Patch the application that a WSGI server calls."""
    module.WSGIHandler.__call__ = wsgi.method(module.WSGIHandler.__call__)


def asgi_handler(module: Any) -> None:
    """Patch the application that an ASGI server calls."""
    module.ASGIHandler.__call__ = asgi.method(module.ASGIHandler.__call__)


def exception(module: Any) -> None:
    """Whatever no view and no middleware caught is made an answer of here."""
    original = module.response_for_exception

    @functools.wraps(original)
    def response_for_exception(request: Any, error: Any) -> Any:
        seen.note(error)
        return original(request, error)

    module.response_for_exception = response_for_exception


def base_handler(module: Any) -> None:
    """Take the route's pattern, and the errors that a middleware of the application's own answers."""
    handler = module.BaseHandler
    resolve, process = handler.resolve_request, handler.process_exception_by_middleware

    @functools.wraps(resolve)
    def resolve_request(self: Any, request: Any) -> Any:
        __traceback_hide__ = True
        match = resolve(self, request)
        mine = seen.current.get()
        if mine is not None:
            route = getattr(match, "route", None)
            # A pattern that is a regular expression is no name; what it took out of the path makes one.
            mine.rule = route if route and not set(route) & set("^$(\\") else dict(match.kwargs) or None
        return match

    @functools.wraps(process)
    def process_exception_by_middleware(self: Any, error: Any, request: Any) -> Any:
        seen.note(error)
        return process(self, error, request)

    handler.resolve_request = resolve_request
    handler.process_exception_by_middleware = process_exception_by_middleware


def response(module: Any) -> None:
    """An answer of 500 and above that is made in an `except` has that error for its cause."""
    base = module.HttpResponseBase
    make = base.__init__

    @functools.wraps(make)
    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        make(self, *args, **kwargs)
        if self.status_code >= _SERVER_ERROR:
            seen.note_current()

    base.__init__ = init
