"""`manage.py access`: teams, users and API keys from the command line."""

import getpass
import sys
from argparse import ArgumentParser
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from inference_portal import checks
from inference_portal.accounts import lockout
from inference_portal.accounts.models import ApiKey, Role, Team, User
from inference_portal.deliveries import letters


class Command(BaseCommand):
    """Give and take access."""

    help = (
        "Manage who may use the portal: add-team, set-quota, add-user, unlock, add-key, revoke-key, new-webhook-secret,"
        " list."
    )
    requires_system_checks = (checks.OURS,)

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the actions."""
        actions = parser.add_subparsers(dest="action", required=True)
        actions.add_parser("list", help="teams with their users and keys")
        actions.add_parser("add-team", help="a new team").add_argument("name")
        quota = actions.add_parser("set-quota", help="how many open jobs a team may have")
        quota.add_argument("team")
        quota.add_argument("quota", type=int, nargs="?", help="without a number: the default, TEAM_QUOTA")
        for action, help_text in (
            ("add-user", "a person; the password is asked for, or read from a pipe"),
            ("add-key", "a program; the key is printed once"),
        ):
            add = actions.add_parser(action, help=help_text)
            add.add_argument("name")
            add.add_argument("--team", required=True)
            add.add_argument("--role", choices=Role.values, default=Role.SUBMITTER)
            if action == "add-key":
                add.add_argument("--days", type=int, help="the key expires after so many days (1 to 3650)")
        actions.add_parser("unlock", help="end a lock after failed logins").add_argument("name")
        webhook = actions.add_parser("new-webhook-secret", help="another key for webhooks that single requests name")
        webhook.add_argument("team")
        actions.add_parser("revoke-key", help="stop a key").add_argument("prefix", help="as `list` shows it")

    def handle(self, *args: Any, **options: Any) -> None:
        """Do it. Raises CommandError."""
        getattr(self, options["action"].replace("-", "_"))(**options)

    def list(self, **options: Any) -> None:
        """Print teams, users, keys."""
        for team in Team.objects.order_by("name"):
            quota = "" if team.quota is None else f": at most {team.quota:,} open jobs"
            self.stdout.write(f"team {team.name}{quota}")
            for user in team.users.order_by("username"):
                self.stdout.write(f"  user {user.username}: {user.role}")
            for key in team.keys.order_by("name"):
                state = "revoked" if key.revoked else "expired" if key.has_expired else "works"
                used = f"last used {key.last_used_at:%Y-%m-%d %H:%M}" if key.last_used_at else "never used"
                self.stdout.write(f"  key {key.prefix} {key.name}: {key.role}, {state}, {used}")

    def add_team(self, name: str, **options: Any) -> None:
        """Create a team."""
        team = Team(name=name)
        try:
            team.full_clean()
        except ValidationError as error:
            raise CommandError("; ".join(error.messages)) from error
        team.save()
        self.stdout.write(f"team {name} created")

    def set_quota(self, team: str, quota: int | None, **options: Any) -> None:
        """Bound a team's open jobs."""
        changed = _team(team)
        changed.quota = quota
        try:
            changed.full_clean()
        except ValidationError as error:
            raise CommandError("; ".join(error.messages)) from error
        changed.save(update_fields=["quota"])
        self.stdout.write(f"team {team} may have {settings.TEAM_QUOTA if quota is None else quota:,} open jobs at once")

    def add_user(self, name: str, team: str, role: str, **options: Any) -> None:
        """Create a person's login."""
        user = User(username=name, team=_team(team), role=role)
        password = getpass.getpass() if sys.stdin.isatty() else sys.stdin.readline().rstrip("\n")
        try:
            validate_password(password, user)
            user.set_password(password)
            user.full_clean()
        except ValidationError as error:
            raise CommandError("; ".join(error.messages)) from error
        user.save()
        self.stdout.write(f"user {name} created")

    def unlock(self, name: str, **options: Any) -> None:
        """Let a person try again at once, from everywhere."""
        if not lockout.unlock(name):
            raise CommandError(f"There were no failed logins as {name} of late; capitals count.")
        self.stdout.write(f"user {name} may log in again")

    def add_key(self, name: str, team: str, role: str, days: int | None, **options: Any) -> None:
        """Create a key and print it."""
        if days is not None and not 1 <= days <= 3650:
            raise CommandError(f"--days {days}: give a number from 1 to 3650.")
        expiry = timezone.now() + timedelta(days=days) if days is not None else None
        new = ApiKey(name=name, team=_team(team), role=role, expiry_date=expiry)
        key = ApiKey.objects.assign_key(new)
        try:
            new.full_clean()
        except ValidationError as error:
            raise CommandError("; ".join(error.messages)) from error
        new.save(force_insert=True)
        self.stderr.write("This key is shown once; keep it like a password:")
        self.stdout.write(key)

    def revoke_key(self, prefix: str, **options: Any) -> None:
        """Revoke a key."""
        if not ApiKey.objects.filter(prefix=prefix, revoked=False).update(revoked=True):
            raise CommandError(f"No working key has the prefix {prefix}; `manage.py access list` shows them.")
        self.stdout.write(f"key {prefix} revoked")

    def new_webhook_secret(self, team: str, **options: Any) -> None:
        """Replace a team's key for webhooks, at once, and print the new one."""
        secret = letters.new_team_secret(_team(team).pk)
        self.stderr.write("From now on calls are signed with this alone:")
        self.stdout.write(secret)


def _team(name: str) -> Team:
    try:
        return Team.objects.get(name=name)
    except Team.DoesNotExist as error:
        raise CommandError(f"There is no team {name}; create it with: manage.py access add-team {name}") from error
