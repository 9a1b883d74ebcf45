"""A column of a list that is computed."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString, mark_safe
from unfold.decorators import display

F = TypeVar("F", bound=Callable[..., Any])


def column(
    description: str, *, label: Mapping[Any, str] | None = None, ordering: str | None = None
) -> Callable[[F], F]:
    """Mark a method as a column: Unfold's `display`, with types. `label` gives each value the colour of its label."""

    def decorate(function: F) -> F:
        return display(function, description=description, label=label, ordering=ordering)  # type: ignore[no-any-return]

    return decorate


def lines(texts: Iterable[str]) -> SafeString:
    """Return the texts, escaped, one below the other; a dash for none."""
    return format_html("<div>{}</div>", format_html_join(mark_safe("<br>"), "{}", ((t,) for t in texts)) or "–")


def one_line(text: str) -> SafeString:
    """Return the text, escaped, so that a narrow column doesn't break it."""
    return format_html('<span class="whitespace-nowrap">{}</span>', text)
