"""Who is asking, whether a person or a program: the one thing that views and services are told about it."""

import re
import threading
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from typing import cast

from cachetools import TTLCache
from django.conf import settings
from django.utils import timezone

from inference_portal.accounts.models import ApiKey, Role, User

# How exactly a key's last use is known: one write a minute and key, not one a request.
LAST_USED_PRECISION = timedelta(minutes=1)

# What a key looks like; nothing else is looked up.
KEY = re.compile(r"[A-Za-z0-9]{8}\.[A-Za-z0-9]{32}")

_known: TTLCache[bytes, "_Key"] = TTLCache(maxsize=10_000, ttl=settings.API_KEY_CACHE_SECONDS)
# Apart from the others: a flood of wrong keys drives no right one out. A client that goes on with a dead key costs one
# look-up in API_KEY_CACHE_SECONDS.
_wrong: TTLCache[bytes, bool] = TTLCache(maxsize=10_000, ttl=settings.API_KEY_CACHE_SECONDS)
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


@dataclass(frozen=True, slots=True)
class _Key:
    """A key that was found to work, and until when it does."""

    caller: Caller
    expires_at: datetime | None

    @property
    def has_expired(self) -> bool:
        return self.expires_at is not None and self.expires_at <= timezone.now()


def caller_from_user(user: User) -> Caller | None:
    """Return the caller behind a session; None for a user who belongs to no team."""
    if user.team_id is None:
        return None
    role = Role.OPERATOR if user.is_superuser else Role(user.role)
    return Caller(user.team_id, role, user.get_username())


def caller_from_key(key: str) -> Caller | None:
    """Return the caller behind an API key, or None when it is unknown, revoked or expired.

    What was found is kept for API_KEY_CACHE_SECONDS: a look-up a request would cost more than the rest of it. A key
    that expires meanwhile ends at its time.
    """
    if not KEY.fullmatch(key):
        return None
    digest = sha256(key.encode()).digest()
    with _lock:
        known = _known.get(digest)
        is_new = known is None and digest not in _wrong
    if is_new:
        known = _look_up(key)
        with _lock:
            if known is None:
                _wrong[digest] = True
            else:
                _known[digest] = known
    return None if known is None or known.has_expired else known.caller


def _look_up(key: str) -> _Key | None:
    try:
        found = cast(ApiKey, ApiKey.objects.get_from_key(key))
    except ApiKey.DoesNotExist:
        return None
    if found.has_expired:
        return None
    now = timezone.now()
    if found.last_used_at is None or now - found.last_used_at > LAST_USED_PRECISION:
        ApiKey.objects.filter(pk=found.pk).update(last_used_at=now)
    return _Key(Caller(found.team_id, Role(found.role), f"key {found.name}"), found.expiry_date)
