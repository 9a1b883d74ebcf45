"""GET /api/queues/: how much waits in each lane, and who is there to take it."""

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from inference_portal.accounts.models import Role
from inference_portal.api.schemas import operators as schemas
from inference_portal.jobs.queues import queues, rates
from inference_portal.jobs.states import State


class QueueListView(APIView):
    """GET all lanes."""

    required_role = Role.OPERATOR

    @extend_schema(**schemas.QUEUES)
    def get(self, request: Request) -> Response:
        """Return each lane's numbers."""
        jobs_per_second = rates()
        results = [
            {
                "lane": queue.name,
                "pool": queue.lane.pool,
                "isolated": queue.lane.isolated,
                "rows": queue.rows,
                "messages": queue.messages,
                "running": queue.states[State.RUNNING],
                "retrying": queue.states[State.RETRYING],
                "oldest_wait_seconds": queue.oldest_wait,
                "consumers": queue.consumers,
                "rate": jobs_per_second[queue.lane],
                "dead_letters": queue.dead_letters,
            }
            for queue in queues()
        ]
        return Response({"results": results})
