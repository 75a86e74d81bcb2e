# SPDX-License-Identifier: MIT
"""The servers that run any application: gunicorn's workers and uvicorn. They are given the application wrapped."""

from __future__ import annotations

import functools
import os

from . import asgi, wsgi

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_WSGI = frozenset({"base_async", "geventlet", "ggevent", "gthread", "sync"})
_made: list[tuple[int, int]] = []  # which process made a worker last, and its number


def gunicorn(module: Any) -> None:
    """Wrap what gunicorn's own workers call; uvicorn's worker is uvicorn and is seen there."""
    base = module.BaseApplication
    load = base.wsgi

    @functools.wraps(load)
    def load_wrapped(self: Any) -> Any:
        application = load(self)
        try:
            kinds = {kind.__module__.rpartition(".") for kind in self.cfg.worker_class.__mro__}
            names = {name for place, _, name in kinds if place == "gunicorn.workers"}
            if "gasgi" in names:
                return asgi.function(application)
            if names & _WSGI:
                return wsgi.function(application)
        except Exception:  # noqa: S110 - a version that we do not know: the frameworks' own layers are left
            pass
        return application

    base.wsgi = load_wrapped


def uvicorn(module: Any) -> None:
    """Wrap what uvicorn calls."""
    config = module.Config
    load = config.load

    @functools.wraps(load)
    def load_wrapped(self: Any) -> None:
        load(self)
        self.loaded_app = asgi.function(self.loaded_app)

    config.load = load_wrapped


def gunicorn_worker(module: Any) -> None:
    """Note the number of each worker: it is made right before the fork that it is for."""
    worker = module.Worker
    make = worker.__init__

    @functools.wraps(make)
    def init(self: Any, age: Any, *args: Any, **kwargs: Any) -> None:
        make(self, age, *args, **kwargs)
        _made[:] = [(os.getpid(), age)]

    worker.__init__ = init


def worker_name() -> str:
    """The number that gunicorn gave this worker; empty: this is none."""
    return next((str(age) for maker, age in _made if maker != os.getpid()), "")
