"""The workers' app as the next version of the contract will have it: `celery -A tests.integration.next_version`."""

from workers import contract

contract.VERSION = 2

from workers.app import app  # noqa: E402

__all__ = ["app"]
