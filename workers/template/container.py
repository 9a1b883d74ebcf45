"""A model that isn't loaded here but asked in a container of its own, over HTTP."""

from typing import Annotated, Literal

from pydantic import Field, field_validator

from workers.template.parts import Part

# No user and no password in an address, which would end up in logs; `headers` is for them.
Url = Annotated[str, Field(pattern=r"^https?://[A-Za-z0-9._\[\]:-]{1,255}(/[!-~]{0,1000})?$")]
HeaderName = Annotated[str, Field(pattern=r"^[A-Za-z0-9-]{1,64}$")]
HeaderValue = Annotated[str, Field(pattern=r"^[!-~]([ -~]{0,998}[!-~])?$")]
# What we set ourselves, and what belongs to the connection.
_OURS = {
    "accept-encoding", "connection", "content-encoding", "content-length", "content-type", "expect", "host",
    "keep-alive", "prefer", "proxy-authorization", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade",
    "x-inference-attempt", "x-inference-id",
}  # fmt: skip


class Container(Part):
    """Where the container is and how it is asked. Only what stands here is ever called, nothing that a client sends."""

    urls: Annotated[tuple[Url, ...], Field(min_length=1, max_length=16)]
    """The addresses that predict, such as http://sklearn:8080/v2/models/iris/infer; several are used in turn."""
    protocol: Literal["v2", "json"] = "v2"
    """v2: Open Inference Protocol, one input a column; json: {"instances": […]}, answered {"predictions": […]}."""
    timeout_seconds: Annotated[float, Field(gt=0, le=590)] = 20.0
    """How long one call may take, from the connection to the end of the answer; less than that of the policy."""
    connect_seconds: Annotated[float, Field(gt=0, le=60)] = 3.0
    """How long the connection alone may take; then the next address is tried."""
    health: Annotated[str, Field(pattern=r"^/[!-~]{0,1000}$")] | None = None
    """A path on the same server that answers 200 when it is well; asked before an address that failed is used again."""
    max_concurrency: Annotated[int, Field(ge=1, le=256)] = 8
    """How many calls the workers of one machine may have under way at once."""
    max_rows: Annotated[int, Field(ge=1, le=65_536)] = 4096
    """The most rows in one call; more of them are asked in several calls, one after the other."""
    headers: dict[HeaderName, HeaderValue] = {}
    """Sent with each call, for instance an Authorization that the container wants."""

    @field_validator("headers")
    @classmethod
    def _headers_are_free(cls, headers: dict[str, str]) -> dict[str, str]:
        for name in headers:
            if name.lower() in _OURS:
                raise ValueError(f"'{name}' is set by the worker itself")
        return headers
