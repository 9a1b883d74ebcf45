"""The workers' Celery app: `celery -A workers.app worker -Q inference.cpu`."""

from celery import Celery

from workers.heartbeat import HeartbeatStep
from workers.settings import settings

app = Celery("workers", set_as_current=False)
app.config_from_object(settings())
app.conf.imports = ("workers.tasks",)
app.steps["consumer"].add(HeartbeatStep)
