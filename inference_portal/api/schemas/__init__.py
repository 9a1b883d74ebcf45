"""What the OpenAPI page says about each route: parameters, bodies, answers, an example each. One file a resource."""

from typing import Any

from drf_spectacular.extensions import OpenApiAuthenticationExtension

from inference_portal.api.schemas.inference import (
    INFER,
    JOB_RESULT,
    JOB_STATUS,
    RESULT,
    RESULT_BY_HEADER,
    STATUS,
    STATUS_BY_HEADER,
)
from inference_portal.api.schemas.jobs import (
    JOB_BULK,
    JOB_CANCEL,
    JOB_CREATE,
    JOB_DETAIL,
    JOB_EVENTS,
    JOB_LIST,
    JOB_PUT,
    JOB_RECEIPT,
    JOB_RERUN,
)
from inference_portal.api.schemas.pages import DOCS, PROBLEM, PROBLEMS, SCHEMA
from inference_portal.api.schemas.server import (
    HEALTHZ,
    LIVE,
    MODEL_CONFIG,
    MODEL_METADATA,
    MODEL_READY,
    MODEL_STATS,
    READY,
    READYZ,
    REPOSITORY_INDEX,
    SERVER,
)

__all__ = [
    "DOCS",
    "HEALTHZ",
    "INFER",
    "JOB_BULK",
    "JOB_CANCEL",
    "JOB_CREATE",
    "JOB_DETAIL",
    "JOB_EVENTS",
    "JOB_LIST",
    "JOB_PUT",
    "JOB_RECEIPT",
    "JOB_RERUN",
    "JOB_RESULT",
    "JOB_STATUS",
    "LIVE",
    "MODEL_CONFIG",
    "MODEL_METADATA",
    "MODEL_READY",
    "MODEL_STATS",
    "PROBLEM",
    "PROBLEMS",
    "READY",
    "READYZ",
    "REPOSITORY_INDEX",
    "RESULT",
    "RESULT_BY_HEADER",
    "SCHEMA",
    "SERVER",
    "STATUS",
    "STATUS_BY_HEADER",
]


class KeyScheme(OpenApiAuthenticationExtension):
    """Tell the OpenAPI page about API keys."""

    target_class = "inference_portal.api.auth.KeyAuthentication"
    name = "apiKey"

    def get_security_definition(self, auto_schema: Any) -> dict[str, str]:
        """Return the security scheme."""
        return {"type": "http", "scheme": "bearer", "description": "An API key of a team"}


class BrowserScheme(OpenApiAuthenticationExtension):
    """Tell the OpenAPI page about logged-in browsers."""

    target_class = "inference_portal.api.auth.BrowserAuthentication"
    name = "session"

    def get_security_definition(self, auto_schema: Any) -> dict[str, str]:
        """Return the security scheme."""
        return {"type": "apiKey", "in": "cookie", "name": "sessionid"}
