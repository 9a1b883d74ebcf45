"""Chooses the tests' database before Django reads its settings: `TEST_DATABASE=postgresql`, else SQLite."""

import atexit
import os
import tempfile

from tests import services

# The run folder of whatever a test starts inside this process; never the developer's own.
os.environ["RUN_DIR"] = tempfile.mkdtemp(prefix="inference-test-")
for name in ("DATABASE_URL", "BROKER_URL", "FAILPOINTS"):
    os.environ.pop(name, None)
os.environ["OMP_NUM_THREADS"] = "1"

if os.environ.get("TEST_DATABASE") == "postgresql":
    _server = services.postgres_server()
    # Django makes `test_inference_…` on it and drops it; a run beside this one has its own.
    os.environ["DATABASE_URL"] = f"{_server.__enter__()}/inference_{os.getpid()}"
    atexit.register(_server.__exit__, None, None, None)
    os.environ["DJANGO_SECRET_KEY"] = "only-for-this-test-run-" + "x" * 40
