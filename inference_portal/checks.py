"""Wrong settings are found at the start, with what to do about them."""

from ipaddress import ip_network
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, Warning, register

from inference_portal.deliveries.sinks.file import configured
from inference_portal.host_port import host_and_port
from inference_portal.store import model_store
from workers import topology
from workers.template.yaml_file import ManifestError

# The tag of all these: what the system's processes check at their start. `manage.py check` and the portal check all of
# Django besides, which loads every page and route.
OURS = "inference"
HUNDRED_YEARS_IN_DAYS = 36_500
YEAR_IN_MINUTES = 365 * 24 * 60


@register(OURS)
def check_secret_key(**kwargs: Any) -> list[CheckMessage]:
    """E001: outside the embedded mode a secret key must be given."""
    if settings.SECRET_KEY == "unset":  # noqa: S105
        hint = "Set DJANGO_SECRET_KEY, or DJANGO_SECRET_KEY_FILE to the path of a file that holds it."
        return [Error("There is no secret key.", hint=hint, id="inference.E001")]
    return []


@register(OURS)
def check_limits(**kwargs: Any) -> list[CheckMessage]:
    """E002: times and limits are positive; what is forgotten is forgotten within a hundred years, or never."""
    positive = (
        "SYNC_WAIT_SECONDS",
        "MAX_WAIT_SECONDS",
        "MAX_WAITERS",
        "MAX_EVENT_STREAMS",
        "MAX_RELAYS",
        "MAX_REQUEST_BYTES",
        "MAX_REQUEST_ROWS",
        "MAX_REQUEST_COLUMNS",
        "TEAM_QUOTA",
        "MAX_OPEN_JOBS",
        "MAX_OPEN_BATCHES",
        "LEASE_SECONDS",
        "CLAIM_SECONDS",
    )
    retention = {"RESULT_RETENTION_HOURS": HUNDRED_YEARS_IN_DAYS * 24, "RECORD_RETENTION_DAYS": HUNDRED_YEARS_IN_DAYS}
    wrong = {name: "Give a number above 0." for name in positive if not getattr(settings, name) > 0}
    for name, most in retention.items():
        if not 0 <= getattr(settings, name) <= most:
            wrong[name] = f"Give a number from 0 (for ever) to {most:,}."
    return [
        Error(f"{name} is {getattr(settings, name)}.", hint=hint, id="inference.E002") for name, hint in wrong.items()
    ]


@register(OURS)
def check_model_store(**kwargs: Any) -> list[CheckMessage]:
    """E003: the store exists. W001: one warning for each manifest that is wrong and so isn't served."""
    if not settings.MODEL_STORE.is_dir():
        hint = "Set MODEL_STORE to the folder that holds <model>/<version>/manifest.yaml."
        return [Error(f"There is no model store at {settings.MODEL_STORE}.", hint=hint, id="inference.E003")]
    return [
        Warning(
            f"Not served: {problem}", hint="Correct the file; it is read again within seconds.", id="inference.W001"
        )
        for problem in model_store().snapshot().problems
    ]


@register(OURS)
def check_sinks(**kwargs: Any) -> list[CheckMessage]:
    """E007: the file with the sinks, if there is one, can be read. W002: manifests name sinks that are there."""
    try:
        # Read once, now: what becomes of the file later disturbs no process that runs.
        sinks = configured()
    except ManifestError as error:
        hint = "Correct the file that SINKS_FILE names; docs/deliveries.md has every key."
        return [Error(f"SINKS_FILE: {error}.", hint=hint, id="inference.E007")]
    hint = "Results that go there are tried for three days; configure it, or correct the manifest."
    return [
        Warning(
            f"{named[0]}:{named[1]} names the sink '{named[2]}', which isn't there.", hint=hint, id="inference.W002"
        )
        for named in _sinks_of_models()
        if named[2] not in sinks
    ]


def _sinks_of_models() -> list[tuple[str, str, str]]:
    if not settings.MODEL_STORE.is_dir():
        # E003 says so.
        return []
    manifests = (release.manifest for release in model_store().snapshot().every())
    return [(manifest.model, manifest.version, manifest.sink) for manifest in manifests if manifest.sink]


@register(OURS)
def check_login(**kwargs: Any) -> list[CheckMessage]:
    """E004: somebody may fail to log in, a lock ends within a year, and proxies are addresses or networks."""
    wrong = {}
    if not settings.LOGIN_FAILURES > 0:
        wrong[f"LOGIN_FAILURES is {settings.LOGIN_FAILURES}."] = "Give a number above 0."
    if not 0 < settings.LOGIN_LOCK_MINUTES <= YEAR_IN_MINUTES:
        hint = f"Give a number above 0, {YEAR_IN_MINUTES:,} at most."
        wrong[f"LOGIN_LOCK_MINUTES is {settings.LOGIN_LOCK_MINUTES}."] = hint
    for text in settings.TRUSTED_PROXIES:
        try:
            ip_network(text)
        except ValueError as error:
            wrong[f"TRUSTED_PROXIES: {error}."] = "Give addresses or networks, as in 10.0.0.7,172.18.0.0/16."
    return [Error(what, hint=hint, id="inference.E004") for what, hint in wrong.items()]


@register(OURS)
def check_pools(**kwargs: Any) -> list[CheckMessage]:
    """E005: pools that may scale from zero exist."""
    hint = f"There are {', '.join(topology.POOLS)}."
    return [
        Error(f"SCALE_FROM_ZERO: there is no pool '{name}'.", hint=hint, id="inference.E005")
        for name in settings.SCALE_FROM_ZERO
        if name not in topology.POOLS
    ]


@register(OURS)
def check_metrics_address(**kwargs: Any) -> list[CheckMessage]:
    """E006: the address of the open metrics, if there is one, can be read."""
    try:
        if settings.METRICS_ADDRESS:
            host_and_port(settings.METRICS_ADDRESS)
    except ValueError as error:
        hint = "Give a host and a port, as in 127.0.0.1:9100 or [::1]:9100, or nothing."
        return [Error(f"METRICS_ADDRESS: {error}.", hint=hint, id="inference.E006")]
    return []
