"""What is told of a model's versions: which take traffic, which may be named, which are retired."""

from dataclasses import dataclass
from typing import Literal

from inference_portal.catalog.models import Action, ReleaseEvent
from inference_portal.catalog.traffic import current
from inference_portal.store import model_store
from workers.model_store import Release, UnknownModel

# Takes requests without a version; takes none now, but did; never did; can't even be named.
State = Literal["serving", "standby", "new", "retired"]


@dataclass(frozen=True, slots=True)
class Version:
    """One version as it stands now. `weight` is in percent; `proof` is its last release, whose golden samples ran."""

    release: Release
    state: State
    weight: float
    proof: ReleaseEvent | None

    @property
    def version(self) -> str:
        """The version."""
        return self.release.manifest.version

    @property
    def percent(self) -> str:
        """The weight for people."""
        return f"{self.weight:.4g} %" if self.weight else "–"


def versions_of(model: str) -> list[Version]:
    """Return a model's versions in their order. Raises UnknownModel."""
    served = model_store().snapshot().releases.get(model)
    if not served:
        raise UnknownModel(f"no model {model!r} is served here")
    table = current()
    weights = {part.version: part.weight for part in table.split(model)}
    events = list(ReleaseEvent.objects.filter(model=model).order_by("id"))
    proofs = {event.version: event for event in events if event.action == Action.RELEASE}
    known = {part["version"] for event in events for part in (*event.before, *event.after)}

    def state(version: str) -> State:
        if version in weights:
            return "serving"
        if (model, version) in table.retired:
            return "retired"
        return "standby" if version in known else "new"

    return [
        Version(served[version], state(version), weights.get(version, 0.0), proofs.get(version))
        for version in sorted(served, key=int)
    ]


def version_of(model: str, version: str) -> Version:
    """Return one version, a retired one too. Raises UnknownModel."""
    for each in versions_of(model):
        if each.version == version:
            return each
    raise UnknownModel(f"model {model!r} has no version {version!r}")
