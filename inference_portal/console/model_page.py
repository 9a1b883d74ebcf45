"""The models: what is served, by whom, and which manifests are wrong."""

from typing import Any

from django.conf import settings
from django.http import HttpRequest, HttpResponse

from inference_portal.accounts.models import Role
from inference_portal.catalog.traffic import current
from inference_portal.catalog.versions import versions_of
from inference_portal.console.access import require
from inference_portal.console.page import page
from inference_portal.jobs.models import Worker
from inference_portal.store import model_store
from workers.template.yaml_file import ManifestError

STATE_COLOURS = {"serving": "success", "standby": "info", "new": "", "retired": "warning"}


def model_list(request: HttpRequest) -> HttpResponse:
    """Show the model store."""
    caller = require(request, Role.VIEWER)
    return page(
        request,
        "console/models.html",
        "Models",
        releases=releases(),
        problems=[_problem(problem) for problem in model_store().snapshot().problems],
        troubles=[
            {"model": model, "text": text}
            for model in sorted(model_store().snapshot().releases)
            for text in current().problems(model)
        ],
        may_submit=caller.role.allows(Role.SUBMITTER),
    )


def releases() -> list[dict[str, Any]]:
    """Return all releases for display, by model, the newest version first."""
    return [row for model in sorted(model_store().snapshot().releases) for row in versions(model)]


def versions(model: str) -> list[dict[str, Any]]:
    """Return a model's versions for display, the newest first. Raises UnknownModel."""
    served = {name for worker in Worker.objects.alive() for name in worker.serves}
    return [
        {
            "manifest": each.release.manifest,
            "state": each.state,
            "label": STATE_COLOURS[each.state],
            "traffic": each.percent,
            "sha256": each.release.manifest.sha256[:12],
            "columns": len(each.release.manifest.columns),
            "labels": ", ".join(each.release.manifest.output.labels),
            "served": f"{model}:{each.version}" in served,
            "proof": each.proof,
        }
        for each in reversed(versions_of(model))
    ]


def _problem(problem: ManifestError) -> dict[str, Any]:
    """Return where and what, with paths inside the store only."""
    root = f"{settings.MODEL_STORE}/"
    return {
        "path": str(problem.path).removeprefix(root),
        "line": problem.line,
        "reason": problem.reason.replace(root, ""),
    }
