"""A column of a list that is computed."""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.decorators import display

F = TypeVar("F", bound=Callable[..., Any])


def column(
    description: str, *, label: Mapping[Any, str] | None = None, ordering: str | None = None
) -> Callable[[F], F]:
    """Mark a method as a column: Unfold's `display`, with types. `label` gives each value the colour of its label."""

    def decorate(function: F) -> F:
        return display(function, description=description, label=label, ordering=ordering)  # type: ignore[no-any-return]

    return decorate


def one_line(text: str) -> SafeString:
    """Return the text, escaped, so that a narrow column doesn't break it."""
    return format_html('<span class="whitespace-nowrap">{}</span>', text)
