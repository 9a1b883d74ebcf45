"""The workers' Celery app: `celery -A workers.app worker -Q inference.cpu`."""

from celery import Celery

from workers.heartbeat import HeartbeatStep
from workers.settings import settings

# Without Celery's Django fixup, even where Django is installed and DJANGO_SETTINGS_MODULE set.
app = Celery("workers", set_as_current=False, fixups=set())
app.config_from_object(settings())
# Ends what hangs in a model, far below RabbitMQ's consumer time-out (30 min).
app.conf.task_time_limit = 600
app.conf.imports = ("workers.tasks",)
app.steps["consumer"].add(HeartbeatStep)
