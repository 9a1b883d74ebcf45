"""Which sink a job's result goes to: the one that the request names, else the one that its model names."""

from inference_portal.accounts.callers import Caller
from inference_portal.accounts.models import Team
from inference_portal.deliveries.sinks import AnySink
from inference_portal.deliveries.sinks.file import configured
from workers.model_store import Release


class NoSuchSink(ValueError):
    """The request names none that the team may use. Says nothing about those of others."""


def choose(named: str, release: Release, caller: Caller) -> str:
    """Return the name of a sink, "" for none. Raises NoSuchSink.

    A model's own is for the teams that may use it. One that isn't in the file is kept: what goes there is tried until
    the operator has put it back.
    """
    sinks = configured()
    if named:
        if named not in sinks or not _may_use(sinks[named], caller):
            raise NoSuchSink("there is no such sink for this team")
        return named
    default = release.manifest.sink or ""
    return default if default not in sinks or _may_use(sinks[default], caller) else ""


def wants(name: str, kind: str) -> bool:
    """Tell whether a sink is to hear of events of this type; one that isn't in the file may be."""
    sink = configured().get(name)
    return sink is None or sink.wants(kind)


def _may_use(sink: AnySink, caller: Caller) -> bool:
    return sink.teams is None or sink.is_open_to(Team.objects.values_list("name", flat=True).get(id=caller.team_id))
