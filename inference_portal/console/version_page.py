"""For operators before a release: can a version be served, and what does it change? In processes of their own."""

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.views.decorators.http import require_POST

from inference_portal.accounts.models import Role
from inference_portal.catalog.commands.check import ADVICE
from inference_portal.catalog.versions import version_of, versions_of
from inference_portal.console.access import require
from inference_portal.console.page import page
from inference_portal.console.traffic_page import unknown_model
from workers.check_model import STEPS
from workers.check_model import check as checked
from workers.making.process import lines
from workers.model_store import UnknownModel


@require_POST
def check(request: HttpRequest, model: str, version: str) -> HttpResponse:
    """Try a version as `manage.py model check` does, and show each step."""
    require(request, Role.OPERATOR)
    try:
        folder = version_of(model, version).release.folder
    except UnknownModel as unknown:
        return unknown_model(request, unknown)
    report = checked(folder)
    steps = [
        {
            "name": step.name,
            "meaning": STEPS[step.name],
            "problems": step.problems,
            "seen": step.seen,
            "advice": ADVICE[step.name].format(model=model, file=f"{model}/{version}/model.ubj"),
        }
        for step in report.steps
    ]
    return page(request, "console/check.html", f"Check of {model}:{version}", model=model, steps=steps, ok=report.ok)


def compare(request: HttpRequest, model: str, version: str) -> HttpResponse:
    """Let one choose another version, and show what a release of this one in its place changes."""
    require(request, Role.OPERATOR)
    try:
        version_of(model, version)
        others = [each.version for each in versions_of(model) if each.version != version]
    except UnknownModel as unknown:
        return unknown_model(request, unknown)
    if not others:
        return redirect("admin:model", model)
    old = request.GET.get("with")
    told, problem = (
        lines("diff", "--", model, old, version, store=settings.MODEL_STORE) if old in others else ([], None)
    )
    return page(
        request,
        "console/compare.html",
        f"Compare {model}:{version}",
        model=model,
        version=version,
        others=others,
        old=old if old in others else None,
        lines="\n".join(told[1:]),
        problem=problem,
    )
