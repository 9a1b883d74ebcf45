"""A page of the console that isn't about one of Django's models."""

from typing import Any

from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render


def page(request: HttpRequest, template: str, title: str, **context: Any) -> HttpResponse:
    """Render a page with the sidebar."""
    return render(request, template, {**admin.site.each_context(request), "title": title, **context})
