"""The list of workers, from their heartbeats."""

from django.utils import timezone

from inference_portal.console.access import RoleAdmin
from inference_portal.console.column import column, lines, one_line
from inference_portal.console.times import duration_text, moment_text
from inference_portal.jobs.models import Worker

# More are counted, not named.
NAMED_MODELS = 5


class WorkerAdmin(RoleAdmin):
    """Read-only: a worker appears with its first heartbeat."""

    list_display = ("worker", "alive", "pool_names", "device", "processes", "models", "troubles", "seen")
    list_display_links = None
    ordering = ("-seen_at", "name")
    sortable_by = ()
    actions = None

    @column("Worker")
    def worker(self, worker: Worker) -> str:
        """Return its name."""
        return worker.name

    @column("State", label={"alive": "success", "silent": "danger"})
    def alive(self, worker: Worker) -> str:
        """Tell whether it was heard lately."""
        return "alive" if worker.is_alive else "silent"

    @column("Pools")
    def pool_names(self, worker: Worker) -> str:
        """Return the pools that it takes jobs from."""
        return ", ".join(worker.pools)

    @column("Models")
    def models(self, worker: Worker) -> str:
        """Return what it may serve, or how many of them."""
        named = ", ".join(worker.serves[:NAMED_MODELS])
        more = len(worker.serves) - NAMED_MODELS
        return f"{named} and {more} more" if more > 0 else named or "–"

    @column("Can't load")
    def troubles(self, worker: Worker) -> str:
        """Return what it should serve and can't, with the reason."""
        return lines(worker.problems)

    @column("Last heard (UTC)")
    def seen(self, worker: Worker) -> str:
        """Return when its last heartbeat came, and how long ago that is."""
        return one_line(f"{moment_text(worker.seen_at)} ({duration_text(worker.seen_at, timezone.now())} ago)")
