"""Which tables have pages, and which of those that other packages register have none here."""

from django.contrib import admin
from django.contrib.auth.models import Group
from django_celery_beat import models as beat
from rest_framework_api_key.models import APIKey

from inference_portal.accounts.models import ApiKey, Team, User
from inference_portal.batches.models import Batch, Schedule
from inference_portal.console.audit import AuditAdmin
from inference_portal.console.batches import BatchAdmin
from inference_portal.console.dead_letters import DeadLetterAdmin
from inference_portal.console.deliveries import DeliveryAdmin
from inference_portal.console.jobs import JobAdmin
from inference_portal.console.keys import KeyAdmin
from inference_portal.console.models import DeadLetter
from inference_portal.console.parked_messages import ParkedMessageAdmin
from inference_portal.console.people import TeamAdmin, UserAdmin
from inference_portal.console.schedules import ScheduleAdmin
from inference_portal.console.webhooks import EndpointAdmin
from inference_portal.console.workers import WorkerAdmin
from inference_portal.deliveries.models import Delivery, Endpoint
from inference_portal.jobs.models import AuditEntry, Job, ParkedMessage, Worker

admin.site.register(Job, JobAdmin)
admin.site.register(Batch, BatchAdmin)
admin.site.register(Schedule, ScheduleAdmin)
admin.site.register(Delivery, DeliveryAdmin)
admin.site.register(Endpoint, EndpointAdmin)
admin.site.register(DeadLetter, DeadLetterAdmin)
admin.site.register(ParkedMessage, ParkedMessageAdmin)
admin.site.register(AuditEntry, AuditAdmin)
admin.site.register(Worker, WorkerAdmin)
admin.site.register(Team, TeamAdmin)
admin.site.register(User, UserAdmin)
admin.site.register(ApiKey, KeyAdmin)

# Roles stand in for groups, our keys for the package's own, and beat's schedules are written by the code.
for model in (
    Group,
    APIKey,
    beat.ClockedSchedule,
    beat.CrontabSchedule,
    beat.IntervalSchedule,
    beat.PeriodicTask,
    beat.SolarSchedule,
):
    admin.site.unregister(model)
