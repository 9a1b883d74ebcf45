"""The models: what is served, by whom, and which manifests are wrong."""

from typing import Any

from django.conf import settings
from django.http import HttpRequest, HttpResponse

from inference_portal.accounts.models import Role
from inference_portal.console.access import require
from inference_portal.console.page import page
from inference_portal.jobs.models import Worker
from inference_portal.store import model_store
from workers.manifest import ManifestError


def model_list(request: HttpRequest) -> HttpResponse:
    """Show the model store."""
    caller = require(request, Role.VIEWER)
    return page(
        request,
        "console/models.html",
        "Models",
        releases=releases(),
        problems=[_problem(problem) for problem in model_store().snapshot().problems],
        may_submit=caller.role.allows(Role.SUBMITTER),
    )


def releases() -> list[dict[str, Any]]:
    """Return all releases for display, by model, the newest version first."""
    served = {name for worker in Worker.objects.alive() for name in worker.serves}
    return [
        {
            "manifest": release.manifest,
            "newest": i == 0,
            "sha256": release.manifest.artifact.sha256[:12],
            "columns": len(release.manifest.columns),
            "labels": ", ".join(release.manifest.output.labels),
            "served": f"{model}:{version}" in served,
        }
        for model, versions in sorted(model_store().snapshot().releases.items())
        for i, (version, release) in enumerate(sorted(versions.items(), key=lambda item: -int(item[0])))
    ]


def _problem(problem: ManifestError) -> dict[str, Any]:
    """Return where and what, with paths inside the store only."""
    root = f"{settings.MODEL_STORE}/"
    return {
        "path": str(problem.path).removeprefix(root),
        "line": problem.line,
        "reason": problem.reason.replace(root, ""),
    }
