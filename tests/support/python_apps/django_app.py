# SPDX-License-Identifier: MIT
# ruff: noqa: ANN001, ANN201, ANN202, ANN204, D102, D103, E402 - an application as applications are; its port is printed
"""The troubles in Django, in one file; `application` for WSGI, `asgi` for ASGI."""

from __future__ import annotations

import json

import django
from django.conf import settings
from trouble import fail

settings.configure(
    DEBUG=False,
    SECRET_KEY="not one",
    ALLOWED_HOSTS=["*"],
    ROOT_URLCONF=__name__,
    MIDDLEWARE=[f"{__name__}.Answering"],
    LOGGING_CONFIG=None,
)
django.setup()

from django.core.exceptions import PermissionDenied
from django.core.handlers.asgi import ASGIHandler
from django.core.handlers.wsgi import WSGIHandler
from django.http import Http404, HttpResponse, HttpResponseBadRequest, JsonResponse, StreamingHttpResponse
from django.urls import path


class Known(Exception):
    """An error that the application answers itself."""


class Worse(Exception):
    """An error whose handler fails."""


class Answering:
    """A middleware with handlers of errors."""

    sync_capable = True
    async_capable = False

    def __init__(self, get_response):
        self.get_response = get_response

    def __call__(self, request):
        return self.get_response(request)

    def process_exception(self, _request, error):
        if isinstance(error, Known):
            return JsonResponse({"error": str(error)}, status=503)
        if isinstance(error, Worse):
            raise OSError("the handler failed") from error
        return None


def ok(_request, number):
    return JsonResponse({"number": number})


def failing(request, kind):
    _ = request.body
    fail(kind)


def answered(_request):
    raise Known("known")


def unanswered(_request):
    raise Worse("first")


def caught(_request):
    try:
        fail("plain")
    except KeyError as error:
        return JsonResponse({"error": str(error)}, status=500)


def stream(_request):
    def parts():
        yield b"begun"
        fail("plain")

    return StreamingHttpResponse(parts())


def aborting(_request, status):
    if status == 403:
        raise PermissionDenied
    if status == 404:
        raise Http404
    return HttpResponse(status=status)


def deliberate(_request):
    return HttpResponse("down", status=503)


def parsed(request):
    try:
        return JsonResponse(json.loads(request.body))
    except ValueError:
        return HttpResponseBadRequest("no JSON")


urlpatterns = [
    path("ok/<int:number>", ok),
    path("fail/<kind>", failing),
    path("known", answered),
    path("worse", unanswered),
    path("caught", caught),
    path("stream", stream),
    path("abort/<int:status>", aborting),
    path("deliberate", deliberate),
    path("json", parsed),
]
application = WSGIHandler()
asgi = ASGIHandler()
