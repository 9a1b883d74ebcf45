"""/api/models/: the models, their versions and who takes the traffic; operators release and roll back."""

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from inference_portal.accounts.models import Role
from inference_portal.api.auth import caller_of
from inference_portal.api.body import read_object
from inference_portal.api.schemas import models as schemas
from inference_portal.api.v2 import ready, served_as
from inference_portal.catalog import releases, traffic
from inference_portal.catalog.models import ReleaseEvent
from inference_portal.catalog.traffic import Part
from inference_portal.catalog.versions import Version, version_of, versions_of
from inference_portal.store import model_store
from workers.formats import Fault, Invalid, json_v2

# Of a model's history so many entries are told.
MAX_EVENTS = 100


# Where containers are, and what opens them, is the operators' alone.
_NOT_SHOWN = {"container": {"urls", "headers"}}


class EventSerializer(serializers.ModelSerializer[ReleaseEvent]):
    """One change of a model's traffic."""

    class Meta:
        model = ReleaseEvent
        fields = (
            "id", "at", "who", "reason", "action", "model", "version", "sha256", "template", "before", "after",
            "golden",
        )  # fmt: skip


class ModelListView(APIView):
    """GET all models."""

    @extend_schema(**schemas.MODEL_LIST)
    def get(self, request: Request) -> Response:
        """Return the models that are served, by name."""
        return Response({"results": [_model(name) for name in sorted(model_store().snapshot().releases)]})


class ModelView(APIView):
    """GET one model."""

    @extend_schema(**schemas.MODEL)
    def get(self, request: Request, model: str) -> Response:
        """Return it with its history, the latest first."""
        events = ReleaseEvent.objects.filter(model=model)[:MAX_EVENTS]
        return Response(_model(model) | {"events": EventSerializer(events, many=True).data})


class VersionListView(APIView):
    """GET a model's versions."""

    @extend_schema(**schemas.VERSION_LIST)
    def get(self, request: Request, model: str) -> Response:
        """Return them in their order."""
        versions = versions_of(model)
        able = ready([each.release.manifest for each in versions])
        return Response({"results": [_version(each, able) for each in versions]})


class VersionView(APIView):
    """GET one version."""

    @extend_schema(**schemas.VERSION)
    def get(self, request: Request, model: str, version: str) -> Response:
        """Return it with its manifest, its signature and the proof of its last release."""
        found = version_of(model, version)
        manifest, proof = found.release.manifest, found.proof
        signature = json_v2.metadata(manifest, [version])
        return Response(
            _version(found, ready([manifest]))
            | {
                "manifest": manifest.model_dump(mode="json", exclude=_NOT_SHOWN),
                "signature": {"inputs": signature["inputs"], "outputs": signature["outputs"]},
                "golden_check": proof and {**(proof.golden or {}), "at": proof.at, "who": proof.who},
            }
        )


class ReleaseView(APIView):
    """POST releases a version."""

    required_role = Role.OPERATOR

    @extend_schema(**schemas.RELEASE)
    def post(self, request: Request, model: str, version: str) -> Response:
        """Have a worker answer its golden samples, and if they are right give it its part of the traffic."""
        data = read_object(request, "weight", "reason")
        event = releases.release(
            model=model, version=version, caller=caller_of(request), weight=_weight(data), reason=_reason(data)
        )
        return Response(EventSerializer(event).data)


class RollbackView(APIView):
    """POST takes the last release back."""

    required_role = Role.OPERATOR

    @extend_schema(**schemas.ROLLBACK)
    def post(self, request: Request, model: str) -> Response:
        """Go back at once to the traffic before it."""
        data = read_object(request, "reason")
        event = releases.rollback(model=model, who=caller_of(request).name, reason=_reason(data))
        return Response(EventSerializer(event).data)


def _model(name: str) -> dict[str, Any]:
    versions, table = versions_of(name), traffic.current()
    parts = table.split(name)
    # What most clients meet.
    first = max(parts, key=lambda part: part.weight).release if parts else versions[-1].release
    return {
        "name": name,
        "description": first.manifest.description,
        "versions": [each.version for each in versions],
        "traffic": [_part(part) for part in parts],
        "problems": table.problems(name),
    }


def _part(part: Part) -> dict[str, Any]:
    return {"version": part.version, "weight": part.weight}


def _version(each: Version, able: set[str]) -> dict[str, Any]:
    manifest = each.release.manifest
    return {
        "model": manifest.model,
        "version": each.version,
        "state": each.state,
        "weight": each.weight,
        "ready": served_as(manifest) in able,
        "sha256": manifest.sha256,
        "template": manifest.template,
        "runtime": manifest.runtime,
        "pool": manifest.pool,
        "description": manifest.description,
    }


def _weight(data: dict[str, Any]) -> int:
    weight = data.get("weight")
    if weight is None:
        return 100
    # Not isinstance: true is an int. To JSON 20 and 20.0 are one number.
    if type(weight) is float and weight.is_integer():
        weight = int(weight)
    if type(weight) is not int:
        raise Invalid(Fault("/weight", "expected a whole number of percent from 1 to 100"))
    return weight


def _reason(data: dict[str, Any]) -> str:
    reason = data.get("reason")
    if not isinstance(reason, str | None):
        raise Invalid(Fault("/reason", "expected text"))
    return reason or ""
