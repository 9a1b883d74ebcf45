"""Who is asking, whether a person or a program: the one thing that views and services are told about it."""

import threading
from dataclasses import dataclass
from datetime import timedelta
from hashlib import sha256
from typing import cast

from cachetools import TTLCache
from django.conf import settings
from django.utils import timezone

from inference_portal.accounts.models import ApiKey, Role, User

# How exactly a key's last use is known: one write a minute and key, not one a request.
LAST_USED_PRECISION = timedelta(minutes=1)

_cache: TTLCache[bytes, "Caller"] = TTLCache(maxsize=10_000, ttl=settings.API_KEY_CACHE_SECONDS)
_lock = threading.Lock()


@dataclass(frozen=True, slots=True)
class Caller:
    """A person or a program, its team and its role."""

    team_id: int
    role: Role
    name: str
    is_authenticated: bool = True

    @property
    def sees_all_teams(self) -> bool:
        """Tell whether objects of other teams exist for this caller."""
        return self.role is Role.OPERATOR


def caller_from_user(user: User) -> Caller | None:
    """Return the caller behind a session; None for a user who belongs to no team."""
    if user.team_id is None:
        return None
    role = Role.OPERATOR if user.is_superuser else Role(user.role)
    return Caller(user.team_id, role, user.get_username())


def caller_from_key(key: str) -> Caller | None:
    """Return the caller behind an API key, or None when it is unknown, revoked or expired.

    What was found is kept for API_KEY_CACHE_SECONDS: a look-up a request would cost more than the rest of it.
    """
    digest = sha256(key.encode()).digest()
    with _lock:
        caller = _cache.get(digest)
    if caller is None:
        caller = _look_up(key)
        if caller is not None:
            with _lock:
                _cache[digest] = caller
    return caller


def _look_up(key: str) -> Caller | None:
    try:
        found = cast(ApiKey, ApiKey.objects.get_from_key(key))
    except ApiKey.DoesNotExist:
        return None
    if found.has_expired:
        return None
    now = timezone.now()
    if found.last_used_at is None or now - found.last_used_at > LAST_USED_PRECISION:
        ApiKey.objects.filter(pk=found.pk).update(last_used_at=now)
    return Caller(found.team_id, Role(found.role), f"key {found.name}")
