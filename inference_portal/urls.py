"""Every route, on one page."""

from django.contrib import admin
from django.urls import path, register_converter
from django.urls.converters import UUIDConverter
from django.views.generic import RedirectView

from inference_portal.api import (
    batch_events,
    batch_files,
    batches,
    dead_letters,
    deliveries,
    docs,
    events,
    health,
    infer,
    job_actions,
    jobs,
    metrics,
    models,
    parked_messages,
    queues,
    receipt,
    results,
    schedules,
    uploads,
    v2,
    webhooks,
    workers,
)


class ModelConverter:
    """A model's name, as manifests may have it; anything else is 404."""

    regex = "[a-z0-9_-]{1,64}"

    def to_python(self, value: str) -> str:
        """Return it as it is."""
        return value

    to_url = to_python


class VersionConverter(ModelConverter):
    """A version, as manifests may have it."""

    regex = "[1-9][0-9]{0,8}"


class SegmentConverter(ModelConverter):
    """Whatever stands there. The endpoint answers for names that no model can have, too: with its headers."""

    regex = "[^/]*"


class ProblemConverter(ModelConverter):
    """A kind of problem. A slash behind it does no harm: people type the address of its page."""

    regex = "[a-z-]+/?"

    def to_python(self, value: str) -> str:
        """Return it without the slash."""
        return value.removesuffix("/")


class JobIdConverter(UUIDConverter):
    """A job's id or a batch's, in capitals too."""

    regex = "[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}"


register_converter(ModelConverter, "model")
register_converter(VersionConverter, "version")
register_converter(SegmentConverter, "segment")
register_converter(ProblemConverter, "problem")
register_converter(JobIdConverter, "job_id")

_JOB = "api/jobs/<job_id:job_id>"
_SCHEDULE = "api/schedules/<job_id:schedule_id>"
_DELIVERY = "api/deliveries/<job_id:delivery_id>"
_WEBHOOK = "api/webhooks/<job_id:webhook_id>"
_BATCH = "api/batches/<job_id:batch_id>"
_CATALOG = "api/models/<model:model>"
_MODEL = "v2/models/<model:model>"
_VERSION = f"{_MODEL}/versions/<version:version>"

urlpatterns = [
    # Inference
    path("v2/models/<segment:model>/infer", infer.InferView.as_view()),
    path("v2/models/<segment:model>/versions/<segment:version>/infer", infer.InferView.as_view()),
    path("status/<model:model>", results.StatusByHeaderView.as_view()),
    path("status/<model:model>/<str:job_id>", results.StatusView.as_view()),
    path("result/<model:model>", results.ResultByHeaderView.as_view()),
    path("result/<model:model>/<str:job_id>", results.ResultView.as_view()),
    # The rest of V2
    path("v2", v2.ServerView.as_view()),
    path("v2/health/live", v2.LiveView.as_view()),
    path("v2/health/ready", v2.ReadyView.as_view()),
    path(_MODEL, v2.ModelView.as_view()),
    path(_VERSION, v2.ModelView.as_view()),
    path(f"{_MODEL}/ready", v2.ModelReadyView.as_view()),
    path(f"{_VERSION}/ready", v2.ModelReadyView.as_view()),
    path(f"{_MODEL}/config", v2.ModelConfigView.as_view()),
    path(f"{_VERSION}/config", v2.ModelConfigView.as_view()),
    path(f"{_MODEL}/stats", v2.ModelStatsView.as_view()),
    path(f"{_VERSION}/stats", v2.ModelStatsView.as_view()),
    path("v2/repository/index", v2.RepositoryIndexView.as_view()),
    # Jobs
    path("api/jobs/", jobs.JobListView.as_view()),
    path("api/jobs/bulk/", jobs.JobBulkView.as_view()),
    path(f"{_JOB}/", jobs.JobView.as_view()),
    path(f"{_JOB}/status/", results.JobStatusView.as_view()),
    path(f"{_JOB}/result/", results.JobResultView.as_view()),
    path(f"{_JOB}/events/", events.JobEventsView.as_view()),
    path(f"{_JOB}/cancel/", job_actions.JobCancelView.as_view()),
    path(f"{_JOB}/rerun/", job_actions.JobRerunView.as_view()),
    path(f"{_JOB}/receipt/", receipt.ReceiptView.as_view()),
    # Batches
    path("api/uploads/", uploads.UploadView.as_view()),
    path("api/batches/", batches.BatchListView.as_view()),
    path(f"{_BATCH}/", batches.BatchView.as_view()),
    path(f"{_BATCH}/chunks/", batches.ChunkListView.as_view()),
    path(f"{_BATCH}/events/", batch_events.BatchEventsView.as_view()),
    path(f"{_BATCH}/output/", batch_files.BatchOutputView.as_view()),
    path(f"{_BATCH}/errors/", batch_files.BatchErrorsView.as_view()),
    path(f"{_BATCH}/cancel/", batches.BatchCancelView.as_view()),
    path(f"{_BATCH}/rerun/", batches.BatchRerunView.as_view()),
    # Schedules
    path("api/schedules/", schedules.ScheduleListView.as_view()),
    path(f"{_SCHEDULE}/", schedules.ScheduleView.as_view()),
    path(f"{_SCHEDULE}/runs/", schedules.ScheduleRunListView.as_view()),
    path(f"{_SCHEDULE}/run-now/", schedules.ScheduleRunNowView.as_view()),
    # Deliveries and webhooks
    path("api/deliveries/", deliveries.DeliveryListView.as_view()),
    path(f"{_DELIVERY}/", deliveries.DeliveryView.as_view()),
    path(f"{_DELIVERY}/redeliver/", deliveries.RedeliverView.as_view()),
    path("api/webhooks/", webhooks.WebhookListView.as_view()),
    path("api/webhooks/secret/", webhooks.WebhookSecretView.as_view()),
    path(f"{_WEBHOOK}/", webhooks.WebhookView.as_view()),
    path(f"{_WEBHOOK}/test/", webhooks.WebhookTestView.as_view()),
    path(f"{_WEBHOOK}/rotate/", webhooks.WebhookRotateView.as_view()),
    # Dead letters
    path("api/dead-letters/", dead_letters.DeadLetterListView.as_view()),
    path("api/dead-letters/replay/", dead_letters.BulkReplayView.as_view()),
    path("api/dead-letters/discard/", dead_letters.BulkDiscardView.as_view()),
    path("api/dead-letters/<job_id:job_id>/", dead_letters.DeadLetterView.as_view()),
    path("api/dead-letters/<job_id:job_id>/replay/", dead_letters.ReplayView.as_view()),
    path("api/dead-letters/<job_id:job_id>/discard/", dead_letters.DiscardView.as_view()),
    path("api/dead-letters/messages/", parked_messages.MessageListView.as_view()),
    path("api/dead-letters/messages/<int:message_id>/discard/", parked_messages.MessageDiscardView.as_view()),
    # Models and releases
    path("api/models/", models.ModelListView.as_view()),
    path(f"{_CATALOG}/", models.ModelView.as_view()),
    path(f"{_CATALOG}/versions/", models.VersionListView.as_view()),
    path(f"{_CATALOG}/versions/<version:version>/", models.VersionView.as_view()),
    path(f"{_CATALOG}/versions/<version:version>/release/", models.ReleaseView.as_view()),
    path(f"{_CATALOG}/rollback/", models.RollbackView.as_view()),
    # What operators watch
    path("api/queues/", queues.QueueListView.as_view()),
    path("api/workers/", workers.WorkerListView.as_view()),
    path("metrics", metrics.MetricsView.as_view()),
    # Documentation
    path("api/schema/", docs.SchemaView.as_view(), name="schema"),
    path("api/docs/", docs.DocsView.as_view(url_name="schema"), name="docs"),
    path("problems/", docs.ProblemsView.as_view()),
    path("problems/<problem:slug>", docs.ProblemView.as_view()),
    # Health
    path("healthz", health.AliveView.as_view()),
    path("readyz", health.CanWorkView.as_view()),
    # People
    path("admin/", admin.site.urls),
    path("", RedirectView.as_view(url="/admin/")),
]

handler400 = "inference_portal.errors.bad_request"
handler404 = "inference_portal.errors.not_found"
handler500 = "inference_portal.errors.server_error"
