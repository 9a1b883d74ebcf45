"""The portal's view of the model store."""

from functools import cache

from django.conf import settings

from workers.model_store import ModelStore


@cache
def model_store() -> ModelStore:
    """Return this process's model store."""
    return ModelStore(settings.MODEL_STORE)
