"""`manage.py up`: prepare this machine and start every process (`make run`, `make run-stack`)."""

import fcntl
import os
import secrets
import socket
import sys
from pathlib import Path
from typing import Any

import psutil
import psycopg
from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError
from django.db import connections
from kombu.exceptions import OperationalError as BrokerError
from psycopg import sql

from inference_portal.accounts.lockout import unlock
from inference_portal.accounts.models import ApiKey, Role, Team, User
from inference_portal.celery import app
from inference_portal.jobs.sweep import sweep
from inference_portal.store import model_store
from workers import topology
from workers.config import ROOT, broker_is_embedded, broker_url
from workers.device import gpu_names

SUPERVISOR = ROOT / "deploy" / "supervisord.conf"


class Command(BaseCommand):
    """Set up database, broker and a demo login, then become the supervisor of all processes."""

    help = "Prepare everything and run the whole system on this machine until Ctrl-C."

    def handle(self, *args: Any, **options: Any) -> None:
        """Prepare, then replace this process by supervisord. Raises CommandError with what to do about it."""
        run_dir: Path = settings.RUN_DIR
        run_dir.mkdir(parents=True, exist_ok=True)
        # Requests and results lie in here, and the demo login.
        run_dir.chmod(0o700)
        (run_dir / "logs").mkdir(exist_ok=True)
        _lock(run_dir / "lock")
        if stopped := _stop_leftovers(run_dir):
            self.stdout.write(f"stopped {stopped} processes that an earlier run had left behind")
        port = _free_port(os.environ.get("PORT", "8000"))
        if not broker_is_embedded():
            _declare_topology()
        _create_database()
        call_command("migrate", verbosity=0)
        if settings.EMBEDDED and (back := sweep(everything=True)):
            self.stdout.write(f"{back} jobs of the earlier run go on")
        demo = _demo_login(f"http://127.0.0.1:{port}")
        _write_private(run_dir / "demo.env", "".join(f"{name}={value}\n" for name, value in demo.items()))
        _become_supervisor(run_dir, port, demo["PORTAL_PASSWORD"])


def _lock(path: Path) -> None:
    """Hold a lock that lives as long as the supervisor: it inherits the file, its children don't."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise CommandError(f"The system runs already in {path.parent}; stop it with Ctrl-C there.") from error
    os.set_inheritable(handle, True)


def _stop_leftovers(run_dir: Path) -> int:
    """Kill what a supervisor left behind that was itself killed: its processes name the folder in their environment."""
    leftovers = []
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid() and process.environ().get("SUPERVISED_IN") == str(run_dir):
                process.kill()
                leftovers.append(process)
        except (psutil.Error, OSError):
            continue
    psutil.wait_procs(leftovers, timeout=10)
    return len(leftovers)


def _free_port(text: str) -> int:
    if not (text.isdigit() and 0 < int(text) < 65536):
        raise CommandError(f"PORT is '{text}'; give a number from 1 to 65535.")
    port = int(text)
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise CommandError(f"Port {port} is taken; choose another one, as in: PORT=8001 make run") from error
    return port


def _declare_topology() -> None:
    try:
        topology.declare(app)
    except (BrokerError, OSError) as error:
        hint = "Start RabbitMQ, or point BROKER_URL at one."
        raise CommandError(f"No broker answers at {_without_password(broker_url())}: {error}. {hint}") from error


def _create_database() -> None:
    """Create the PostgreSQL database if the server doesn't have it."""
    wrapper = connections["default"]
    if wrapper.vendor != "postgresql":
        return
    parameters = {k: v for k, v in wrapper.get_connection_params().items() if k in ("host", "port", "user", "password")}
    name = wrapper.settings_dict["NAME"]
    try:
        with psycopg.connect(dbname="postgres", autocommit=True, connect_timeout=5, **parameters) as server:
            if not server.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name]).fetchone():
                server.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    except psycopg.OperationalError as error:
        raise CommandError(f"No PostgreSQL answers: {error}. Start it, or point DATABASE_URL at one.") from error


def _demo_login(url: str) -> dict[str, str]:
    """Make a login and a key for this run; those of earlier runs stop working."""
    team, _ = Team.objects.get_or_create(name="demo")
    password = secrets.token_urlsafe(12)
    user, _ = User.objects.get_or_create(username="demo", defaults={"team": team, "role": Role.OPERATOR})
    user.set_password(password)
    user.save()
    unlock("demo")
    ApiKey.objects.filter(team=team, name="demo").delete()
    _, key = ApiKey.objects.create_key(name="demo", team=team, role=Role.OPERATOR)
    return {"PORTAL_URL": url, "PORTAL_API_KEY": key, "PORTAL_USER": "demo", "PORTAL_PASSWORD": password}


def _write_private(path: Path, text: str) -> None:
    path.unlink(missing_ok=True)
    path.touch(mode=0o600)
    path.write_text(text)


def _become_supervisor(run_dir: Path, port: int, password: str) -> None:
    full = not broker_is_embedded()
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "RUN_DIR": str(run_dir),
        "SUPERVISED_IN": str(run_dir),
        "GRANIAN_PORT": str(port),
        "DJANGO_SECRET_KEY": settings.SECRET_KEY,
        # Flower reads the broker, so it is for the full stack; it opens with the demo login.
        "START_FLOWER": str(full).lower(),
        "FLOWER_CONF": str(ROOT / "deploy" / "flowerconfig.py"),
        "FLOWER_ADDRESS": "127.0.0.1",
        "FLOWER_PORT": os.environ.get("FLOWER_PORT", "5555"),
        "FLOWER_BASIC_AUTH": f"demo:{password}",
        "START_GPU": str(bool(gpu_names())).lower(),
        "START_BATCH": str(os.environ.get("START_BATCH", "1") == "1").lower(),
        # Only for models in containers.
        "START_CONTAINER": str(_has_containers()).lower(),
        # One thread a worker process; processes are what scales.
        "OMP_NUM_THREADS": "1",
    }
    os.chdir(ROOT)
    os.execvpe("supervisord", ["supervisord", "-c", str(SUPERVISOR)], environment)  # noqa: S606, S607


def _has_containers() -> bool:
    wanted = os.environ.get("START_CONTAINER", "")
    if wanted:
        return wanted == "1"
    return any(release.manifest.container is not None for release in model_store().snapshot().every())


def _without_password(url: str) -> str:
    head, at, tail = url.rpartition("@")
    return f"{head.partition('://')[0]}://…@{tail}" if at else url
