"""A model's page: its versions, who takes its traffic, and its history; for operators release, rollback, retire."""

from collections.abc import Callable
from typing import Any

from django import forms
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from unfold.widgets import UnfoldAdminIntegerFieldWidget, UnfoldAdminTextareaWidget

from inference_portal.accounts.models import Role
from inference_portal.catalog import releases
from inference_portal.catalog.models import ReleaseEvent, Split
from inference_portal.catalog.refusals import REFUSALS, GoldenMismatch, ReleaseConflict
from inference_portal.catalog.traffic import current
from inference_portal.catalog.versions import version_of
from inference_portal.console.access import require
from inference_portal.console.model_page import versions
from inference_portal.console.page import page
from inference_portal.console.times import moment_text
from inference_portal.jobs.quota import Full
from workers.formats import Invalid
from workers.model_store import UnknownModel

# Of a model's history so many entries are shown.
MAX_EVENTS = 50


class ReasonForm(forms.Form):
    """Why it is done."""

    reason = forms.CharField(
        required=False,
        max_length=1_000,
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 2}),
        help_text="It is kept in the history.",
    )


class ReleaseForm(ReasonForm):
    """And how much of the traffic it gets."""

    weight = forms.IntegerField(
        label="Weight (percent)",
        min_value=1,
        max_value=100,
        initial=100,
        widget=UnfoldAdminIntegerFieldWidget(),
        help_text="Its part of the requests that name no version. The others share the rest in their proportion.",
    )
    field_order = ("weight", "reason")


def model(request: HttpRequest, model: str) -> HttpResponse:
    """Show one model."""
    caller = require(request, Role.VIEWER)
    try:
        rows = versions(model)
    except UnknownModel as unknown:
        return unknown_model(request, unknown)
    events = ReleaseEvent.objects.filter(model=model)[:MAX_EVENTS]
    parts = current().split(model)
    # What most clients meet.
    told = max(parts, key=lambda part: part.weight).release.manifest if parts else rows[0]["manifest"]
    return page(
        request,
        "console/model.html",
        f"Model {model}",
        model=model,
        description=told.description,
        versions=rows,
        parts=[{"version": part.version, "weight": f"{part.weight:.4g}"} for part in parts],
        only=parts[0].version if len(parts) == 1 else "",
        troubles=current().problems(model),
        events=[_event(event) for event in events],
        can_go_back=_can_go_back(model),
        may_submit=caller.role.allows(Role.SUBMITTER),
        is_operator=caller.role.allows(Role.OPERATOR),
    )


def release(request: HttpRequest, model: str, version: str) -> HttpResponse:
    """Ask for the weight, then have the golden samples answered and release."""
    caller = require(request, Role.OPERATOR)
    what = {"title": f"Release {model}:{version}", "button": "Release", "act_icon": "rocket_launch"}

    def act(form: forms.Form) -> ReleaseEvent:
        return releases.release(model=model, version=version, caller=caller, **form.cleaned_data)

    return _ask(request, model, version, ReleaseForm, act, what)


def rollback(request: HttpRequest, model: str) -> HttpResponse:
    """Show what it would be like, then go back."""
    caller = require(request, Role.OPERATOR)
    what = {"title": f"Roll back {model}", "button": "Roll back", "act_icon": "undo"}
    try:
        last, parts = releases.rollback_target(model)
    except ReleaseConflict as conflict:
        messages.warning(request, str(conflict))
        return redirect("admin:model", model)
    except UnknownModel as unknown:
        return unknown_model(request, unknown)
    what["last"], what["after"] = last.version, _split([part.as_json() for part in parts])

    def act(form: forms.Form) -> ReleaseEvent:
        return releases.rollback(model=model, who=caller.name, **form.cleaned_data)

    return _ask(request, model, None, ReasonForm, act, what)


def retire(request: HttpRequest, model: str, version: str) -> HttpResponse:
    """Ask whether, then take it out of use."""
    caller = require(request, Role.OPERATOR)
    what = {"title": f"Retire {model}:{version}", "button": "Retire", "act_icon": "block", "act_variant": "danger"}

    def act(form: forms.Form) -> ReleaseEvent:
        return releases.retire(model=model, version=version, who=caller.name, **form.cleaned_data)

    return _ask(request, model, version, ReasonForm, act, what)


def _ask(
    request: HttpRequest,
    model: str,
    version: str | None,
    kind: type[forms.Form],
    act: Callable[[Any], ReleaseEvent],
    what: dict[str, Any],
) -> HttpResponse:
    """Show the form, or do what it asks for; a refusal is told above the form."""
    try:
        shown = None if version is None else version_of(model, version)
    except UnknownModel as unknown:
        return unknown_model(request, unknown)
    form = kind(request.POST if request.method == "POST" else None)
    differences: list[dict[str, Any]] = []
    if form.is_valid():
        try:
            event = act(form)
        except GoldenMismatch as mismatch:
            differences = [_difference(each) for each in mismatch.differences]
        except Invalid as invalid:
            for fault in invalid.faults:
                form.add_error(fault.pointer[1:], fault.detail.capitalize() + ".")
        except (*REFUSALS, UnknownModel, Full) as refusal:
            form.add_error(None, str(refusal))
        else:
            messages.success(
                request, f"Version {event.version} {event.get_action_display()}. Traffic now: {_split(event.after)}."
            )
            return redirect("admin:model", model)
    return page(
        request,
        "console/release.html",
        what["title"],
        model=model,
        version=shown,
        now=_split([part.as_json() for part in current().split(model)]),
        form=form,
        differences=differences,
        **{name: value for name, value in what.items() if name != "title"},
    )


def _difference(each: Any) -> dict[str, Any]:
    return {"row": each.row, "output": each.output, "expected": each.expected, "got": each.got}


def _can_go_back(model: str) -> bool:
    try:
        releases.rollback_target(model)
    except ReleaseConflict:
        return False
    return True


def _event(event: ReleaseEvent) -> dict[str, Any]:
    return {
        "when": moment_text(event.at),
        "who": event.who,
        "what": f"version {event.version} {event.get_action_display()}",
        "reason": event.reason,
        "traffic": _split(event.after),
        "job": (event.golden or {}).get("job"),
    }


def _split(parts: Split) -> str:
    return ", ".join(f"version {part['version']}: {part['weight']:.4g} %" for part in parts) or "nobody"


def unknown_model(request: HttpRequest, unknown: UnknownModel) -> HttpResponse:
    """Say that it isn't there, above the list of all models."""
    messages.warning(request, f"{str(unknown)[:1].upper()}{str(unknown)[1:]}.")
    return redirect("admin:models")
