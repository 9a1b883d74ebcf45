"""Teams for the loads."""

from tests.stack import Stack


def team_key(stack: Stack, team: str) -> str:
    """Make a team and return a key of it."""
    stack.manage("access", "add-team", team)
    return stack.manage("access", "add-key", f"{team}-key", "--team", team).strip()
