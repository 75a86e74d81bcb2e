# SPDX-License-Identifier: MIT
# ruff: noqa: SIM105 - contextlib is not loaded
"""Sets the hooks: the end of the process and of its threads, and the modules that are patched once they are loaded.

As little as can be is loaded here: it costs every start of Python. What the crash path needs is loaded
here all the same: an application that dies may be unable to open one more file.
"""

from __future__ import annotations

import os
import sys
from _thread import allocate_lock, start_new_thread

from .crash import Crashes

TYPE_CHECKING = False  # `typing` itself is not loaded: it would cost every start of Python some milliseconds
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Any

# Module of the application -> ours that patches it, once it is loaded, by the function of that name.
PATCHES = {
    "aiohttp.web_protocol": ("aio", "protocol"),
    "aiohttp.web_response": ("aio", "response"),
    "asyncio.log": ("background", "log"),
    "django.core.handlers.asgi": ("django", "asgi_handler"),
    "django.core.handlers.base": ("django", "base_handler"),
    "django.core.handlers.exception": ("django", "exception"),
    "django.core.handlers.wsgi": ("django", "wsgi_handler"),
    "django.http.response": ("django", "response"),
    "flask.app": ("wsgi", "flask"),
    "gunicorn.app.base": ("servers", "gunicorn"),
    "gunicorn.workers.base": ("servers", "gunicorn_worker"),
    "http.server": ("httpserver", "patch"),
    "starlette._exception_handler": ("asgi", "exception_handler"),
    "starlette.applications": ("asgi", "starlette"),
    "starlette.responses": ("asgi", "responses"),
    "threading": ("start", "threads"),
    "uvicorn.config": ("servers", "uvicorn"),
    "werkzeug.wrappers.response": ("wsgi", "werkzeug"),
    "wsgiref.handlers": ("wsgi", "wsgiref"),
}

# Taken before the application can replace them: gevent puts its own in their place.
THREADS = (start_new_thread, allocate_lock)


def patch(module: Any) -> None:
    """Patch a module of the application; what cannot be patched is left alone."""
    part, name = PATCHES[module.__name__]
    try:
        ours = __import__(f"{__package__}.{part}", fromlist=[name])
        getattr(ours, name)(module)
    except Exception:  # noqa: S110 - a version that we do not know: it tells nothing
        pass


class Finder:
    """Stands in front of the finders of modules and has those of PATCHES patched right after they were loaded."""

    def __init__(self) -> None:
        self._left = set(PATCHES)

    def find_spec(self, name: str, path: object = None, target: object = None) -> Any:
        """Find a module that is to be patched as the finders behind this one do; None for all others."""
        if name not in self._left:
            return None
        for finder in sys.meta_path:
            find = getattr(finder, "find_spec", None)
            spec = find(name, path, target) if find is not None and finder is not self else None
            if spec is not None:
                self._left.discard(name)
                if spec.loader is not None:
                    _arm(spec.loader)
                return spec
        return None


def _arm(loader: Any) -> None:
    load = loader.exec_module

    def exec_module(module: Any) -> None:
        load(module)
        patch(module)

    try:
        loader.exec_module = exec_module
    except AttributeError:
        pass  # a loader that cannot be changed (zipped, frozen): its module tells nothing


def install(socket_path: str) -> None:
    """Set every hook."""
    crashes = Crashes(socket_path)
    sys.meta_path.insert(0, Finder())
    before = sys.excepthook

    def excepthook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        crashes.tell(kind, error, trace)
        before(kind, error, trace)

    sys.excepthook = excepthook
    for name in PATCHES:
        if name in sys.modules:  # a .pth file was there first
            patch(sys.modules[name])


def threads(module: Any) -> None:
    """Tell of errors that end a thread."""
    crashes = Crashes(report_socket())
    before = module.excepthook

    def thread_hook(told: Any) -> None:
        name = told.thread.name if told.thread is not None else "unknown"
        crashes.tell(told.exc_type, told.exc_value, told.exc_traceback, thread=name)
        before(told)

    module.excepthook = thread_hook


def report_socket() -> str:
    """Where reports go."""
    return os.environ.get("WOLVERINE_REPORT_SOCKET", "")
