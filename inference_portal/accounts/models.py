"""Who may ask: teams, the people in them, and keys for programs."""

from django.contrib.auth.models import AbstractUser
from django.db import models
from rest_framework_api_key.models import AbstractAPIKey


class Role(models.TextChoices):
    """What one may do; each role may do all that the ones before it may."""

    VIEWER = "viewer", "Viewer: read own team"
    SUBMITTER = "submitter", "Submitter: and submit, cancel, rerun"
    OPERATOR = "operator", "Operator: all teams, dead letters, releases"

    def allows(self, required: "Role") -> bool:
        """Tell whether this role includes the required one."""
        order = list(Role)
        return order.index(self) >= order.index(required)


class Team(models.Model):
    """The owner of jobs and keys."""

    name = models.SlugField(max_length=64, unique=True)
    # How many open jobs it may have; nothing here means settings.TEAM_QUOTA.
    quota = models.PositiveIntegerField(
        null=True, blank=True, help_text="How many jobs may be open at once. Empty: the default of this installation."
    )
    created_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return self.name


class User(AbstractUser):
    """A person: logs in with a password and belongs to one team."""

    team = models.ForeignKey(Team, on_delete=models.PROTECT, related_name="users", null=True)
    role = models.CharField(max_length=16, choices=Role, default=Role.VIEWER)


class ApiKey(AbstractAPIKey):
    """A program's key: only its hash is stored, the key itself is shown once."""

    team = models.ForeignKey(Team, on_delete=models.CASCADE, related_name="keys")
    role = models.CharField(max_length=16, choices=Role, default=Role.SUBMITTER)
    last_used_at = models.DateTimeField(null=True, editable=False)

    class Meta(AbstractAPIKey.Meta):
        verbose_name = "API key"
        verbose_name_plural = "API keys"
