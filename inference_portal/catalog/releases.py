"""Release, rollback, retire: the only writers of the traffic. Each is one transaction with an entry in the history."""

import re
from collections.abc import Iterable
from typing import Any

from django.db import connection, transaction

from inference_portal.accounts.callers import Caller
from inference_portal.catalog import traffic
from inference_portal.catalog.golden import golden_check
from inference_portal.catalog.models import Action, ReleaseEvent, Split, Traffic
from inference_portal.catalog.refusals import ReleaseConflict
from inference_portal.catalog.traffic import Part
from inference_portal.store import model_store
from workers.formats import Fault, Invalid
from workers.model_store import Release, UnknownModel

# Without NUL and lone surrogates, which PostgreSQL doesn't store.
_REASON = re.compile(r"[^\0\ud800-\udfff]{0,1000}")


def release(*, model: str, version: str, caller: Caller, weight: int = 100, reason: str = "") -> ReleaseEvent:
    """Give a version `weight` percent of the traffic, once a worker has answered its golden samples rightly.

    The others share the rest in their old proportion. A retired version is no longer retired then. Raises UnknownModel,
    Invalid, ReleaseConflict, what `golden_check` raises.
    """
    reason = checked_reason(reason)
    if not 1 <= weight <= 100:
        raise Invalid(Fault("/weight", "expected a whole number of percent from 1 to 100"))
    found = model_store().get(model, version)
    # Before the samples run, so that nobody waits for a refusal; and again when the traffic is changed.
    _shared(traffic.read().split(model), found, weight)
    golden = golden_check(release=found, caller=caller)
    with transaction.atomic():
        table = _locked()
        if model_store().get(model, version).manifest.sha256 != found.manifest.sha256:
            raise ReleaseConflict("The model file was replaced while its golden samples ran; try again.")
        before = table.split(model)
        after = _shared(before, found, weight)
        event = _write(Action.RELEASE, found, before, after, who=caller.name, reason=reason, golden=golden)
    traffic.forget()
    return event


def rollback(*, model: str, who: str, reason: str = "") -> ReleaseEvent:
    """Go back at once to the traffic before the last release that isn't taken back yet; nothing is proved anew.

    A version of then that is retired, gone or changed since gets none. Raises UnknownModel, Invalid, ReleaseConflict.
    """
    reason = checked_reason(reason)
    with transaction.atomic():
        table = _locked()
        last, after = _before_the_last(model, table)
        event = _write(Action.ROLLBACK, last, table.split(model), after, who=who, reason=reason)
    traffic.forget()
    return event


def rollback_target(model: str) -> tuple[ReleaseEvent, list[Part]]:
    """Return the release that a rollback would take back, and the traffic that there would be. Raises as `rollback`."""
    return _before_the_last(model, traffic.read())


def retire(*, model: str, version: str, who: str, reason: str = "") -> ReleaseEvent:
    """Take a version out of use: the others share its traffic, and who names it is told that it is unknown.

    Jobs that were accepted for it still run. Raises UnknownModel, Invalid, ReleaseConflict for the last with traffic.
    """
    reason = checked_reason(reason)
    found = model_store().get(model, version)
    with transaction.atomic():
        table = _locked()
        if (model, version) in table.retired:
            raise ReleaseConflict(f"Version {version} of {model} is retired already.")
        before = table.split(model)
        others = [part for part in before if part.version != version]
        if not others:
            raise ReleaseConflict(f"Version {version} of {model} takes all the traffic; release another one first.")
        event = _write(Action.RETIRE, found, before, _to(100.0, others), who=who, reason=reason)
        row = {"sha256": found.manifest.sha256, "weight": 0.0, "retired": True}
        Traffic.objects.update_or_create(model=model, version=version, defaults=row)
    traffic.forget()
    return event


def checked_reason(reason: str) -> str:
    """Return the reason without space around it; none is needed. Raises Invalid."""
    reason = reason.strip()
    if not _REASON.fullmatch(reason):
        raise Invalid(Fault("/reason", "expected text of at most 1,000 characters"))
    return reason


def _locked() -> traffic.Table:
    """Return the rows; until the transaction ends nobody else changes any."""
    if connection.vendor == "postgresql":
        # A model may have no row yet that could be locked. Readers aren't held up. SQLite has one writer anyway.
        with connection.cursor() as cursor:
            cursor.execute(f"LOCK TABLE {Traffic._meta.db_table} IN SHARE ROW EXCLUSIVE MODE")
    return traffic.read()


def _shared(before: list[Part], new: Release, weight: int) -> list[Part]:
    """Return the traffic once `new` has its weight. Raises ReleaseConflict when nobody could take the rest."""
    others = [part for part in before if part.version != new.manifest.version]
    if not others and weight < 100:
        raise ReleaseConflict("No other version takes traffic now, so this one takes all of it: release it with 100.")
    return [*(_to(100.0 - weight, others) if weight < 100 else []), Part(new, float(weight))]


def _to(total: float, parts: list[Part]) -> list[Part]:
    """Return the parts in their proportion, adding up to `total`."""
    had = sum(part.weight for part in parts)
    return [Part(part.release, part.weight * total / had) for part in parts]


def _before_the_last(model: str, table: traffic.Table) -> tuple[ReleaseEvent, list[Part]]:
    served = model_store().snapshot().releases.get(model)
    if not served:
        raise UnknownModel(f"no model {model!r} is served here")
    last = _last_release(ReleaseEvent.objects.filter(model=model).order_by("-id"))
    if last is None:
        raise ReleaseConflict(f"There is no release of {model} that could be taken back.")
    then = {(part["version"], part["sha256"]): part["weight"] for part in last.before}
    allowed = {version: found for version, found in served.items() if (model, version) not in table.retired}
    parts = traffic.whole(allowed, then)
    if not parts:
        names = ", ".join(part["version"] for part in last.before) or "none"
        raise ReleaseConflict(
            f"What took the traffic of {model} before the release of version {last.version} (version {names}) is "
            "retired, gone or changed; release another version."
        )
    return last, parts


def _last_release(newest_first: Iterable[ReleaseEvent]) -> ReleaseEvent | None:
    """Return the last release that no rollback has taken back."""
    taken_back = 0
    for event in newest_first:
        if event.action == Action.ROLLBACK:
            taken_back += 1
        elif event.action == Action.RELEASE and taken_back:
            taken_back -= 1
        elif event.action == Action.RELEASE:
            return event
    return None


def _write(
    action: Action, about: Release | ReleaseEvent, before: list[Part], after: list[Part], **fields: Any
) -> ReleaseEvent:
    """Write the traffic and the entry about it."""
    if isinstance(about, Release):
        manifest = about.manifest
        named = {"version": manifest.version, "sha256": manifest.sha256, "template": manifest.template}
        model = manifest.model
    else:
        named = {"version": about.version, "sha256": about.sha256, "template": about.template}
        model = about.model
    rows = Traffic.objects.filter(model=model)
    rows.exclude(version__in=[part.version for part in after]).update(weight=0.0)
    for part in after:
        row = {"sha256": part.release.manifest.sha256, "weight": part.weight, "retired": False}
        Traffic.objects.update_or_create(model=model, version=part.version, defaults=row)
    return ReleaseEvent.objects.create(
        action=action, model=model, before=_json(before), after=_json(after), **named, **fields
    )


def _json(parts: list[Part]) -> Split:
    return [part.as_json() for part in parts]
