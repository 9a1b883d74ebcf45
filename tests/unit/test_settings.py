"""What DATABASE_URL says reaches the driver, in the portal (which has a pool) as in every other process."""

import json
import os
import subprocess
import sys

import pytest

from tests.stack import ROOT

PRINT = "import json; from inference_portal import settings; print(json.dumps(settings.DATABASES['default']))"


def database(url: str, **variables: str) -> dict[str, object]:
    environment = {k: v for k, v in os.environ.items() if k != "DATABASE_POOL_SIZE"} | {
        "DATABASE_URL": url,
        **variables,
    }
    done = subprocess.run(
        [sys.executable, "-c", PRINT], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    found: dict[str, object] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("pool", [{}, {"DATABASE_POOL_SIZE": "4"}])
def test_the_options_of_the_address_are_kept_and_a_silent_server_is_noticed(pool: dict[str, str]) -> None:
    options = database("postgres://me@db.example/x?sslmode=verify-full&keepalives_idle=99", **pool)["OPTIONS"]
    assert isinstance(options, dict)
    assert options["sslmode"] == "verify-full"
    assert int(options["keepalives_idle"]) == 99
    assert options["tcp_user_timeout"] == 25_000
    assert ("pool" in options) == bool(pool)
