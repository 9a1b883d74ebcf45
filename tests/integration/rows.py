"""Rows as they look in each situation, and ways to act on them from many threads and to read queues."""

import threading
from collections.abc import Callable
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any
from uuid import UUID, uuid4

import numpy as np
from celery import Celery
from django.db import connection, connections
from django.db.models import Model
from django.utils import timezone
from kombu import Connection, Queue

from inference_portal.accounts.models import Team
from inference_portal.jobs.claims import Claim, claim
from inference_portal.jobs.models import Attempt, Job, Worker
from inference_portal.jobs.room import Share
from inference_portal.jobs.states import FINAL, State
from inference_portal.jobs.turns import Lane, Turns, waiting
from inference_portal.store import model_store
from workers.contract import BundleResult, ErrorCode, Failure, Outcome, Run
from workers.settings import settings as celery_settings

OUTPUTS = '[{"name":"probability","datatype":"FP32","shape":[1,3],"data":[0.5,0.25,0.25]}]'
WIDTH = 13
ONE_ROW = np.zeros(WIDTH, dtype="<f4").tobytes()
CPU, GPU = Lane("cpu", False), Lane("gpu", False)
CPU_ALONE, GPU_ALONE = Lane("cpu", True), Lane("gpu", True)
ROOM = dict.fromkeys((CPU, GPU, CPU_ALONE, GPU_ALONE), 4)


def make_team(name: str = "team") -> Team:
    """Store a team."""
    return Team.objects.get_or_create(name=name)[0]


def new_job(team: Team, **fields: Any) -> Job:
    """Return a job for the wine model that isn't stored yet; its values are its own."""
    manifest = model_store().get("wine", "1").manifest
    rows = fields.get("rows", 1)
    matrix = np.random.default_rng().random((rows, WIDTH), dtype=np.float32)
    usual: dict[str, Any] = {
        "team": team,
        "submitted_by": "test",
        "model": "wine",
        "version": "1",
        "sha256": manifest.sha256,
        "pool": "cpu",
        "rows": rows,
        "input": matrix.astype("<f4").tobytes(),
        "reply": {"format": "instances", "id": None, "outputs": None},
    }
    values = {**usual, **fields}
    return Job(**{"input_sha256": sha256(values["input"]).hexdigest(), **values})


def make_job(team: Team, **fields: Any) -> Job:
    """Store a due job."""
    job = new_job(team, **fields)
    job.save(force_insert=True)
    return job


def make_sent(team: Team, **fields: Any) -> Job:
    """Store a job whose bundle the broker has confirmed."""
    now = timezone.now()
    return make_job(team, **{"bundle": uuid4(), "lease_until": now + timedelta(minutes=1), "sent_at": now, **fields})


def make_running(team: Team, **fields: Any) -> Job:
    """Store a job that a worker has announced."""
    usual = {"state": State.RUNNING, "started_at": timezone.now(), "worker": "cpu@host/1"}
    return make_sent(team, **{**usual, **fields})


def make_final(team: Team, state: State, **fields: Any) -> Job:
    """Store a job that has ended."""
    assert state in FINAL
    usual: dict[str, Any] = {"state": state, "finished_at": timezone.now()}
    if state is State.SUCCEEDED:
        usual |= {"result": OUTPUTS.encode(), "started_at": timezone.now()}
    if state is State.FAILED:
        usual |= {"error_code": ErrorCode.BAD_DATA, "error_message": "row 0: wrong"}
    if state is State.DEAD_LETTERED:
        usual |= {"error_code": ErrorCode.LEASE_EXPIRED, "error_message": "lost"}
    return make_job(team, **{**usual, **fields})


def make_suspect(team: Team, **fields: Any) -> Job:
    """Store a job that the isolation lane has under way, after it was in a bundle whose worker died."""
    return make_sent(team, **{"isolated": True, "attempt": 2, **fields})


def make_worker(*lanes: str, processes: int = 1, seen_at: datetime | None = None, name: str = "") -> Worker:
    """Store a worker's heartbeat; without lanes it reads the one of the pool `cpu`."""
    lanes = lanes or ("cpu",)
    return Worker.objects.create(
        name=name or f"{lanes[0]}@{uuid4().hex[:6]}",
        host="host",
        pools=list(lanes),
        device="cpu",
        processes=processes,
        serves=["wine:1"],
        seen_at=seen_at or timezone.now(),
    )


def whole(job_id: UUID) -> dict[str, Any]:
    """Return the whole row and all its attempts, to compare before and after."""
    row = Job.objects.filter(id=job_id).values().get()
    for name in ("input", "result"):
        row[name] = None if row[name] is None else bytes(row[name])
    row["attempts"] = list(Attempt.objects.filter(job_id=job_id).order_by("id").values())
    return row


def stored(job: Job, *others: Model) -> list[Any]:
    """Return the rows of these and of the job's attempts as the database has them: a cheap `whole`, to compare only."""
    found = []
    with connection.cursor() as cursor:
        for model, column, thing in [
            (Attempt, "job_id", job),
            *((type(thing), "id", thing) for thing in (job, *others)),
        ]:
            key = thing._meta.pk.get_db_prep_value(thing.pk, connection)
            cursor.execute(f"SELECT * FROM {model._meta.db_table} WHERE {column} = %s ORDER BY id", [key])
            found.append(cursor.fetchall())
    return found


def success(job: Job, attempt: int | None = None) -> Outcome:
    """Return the outcome of a job that went well."""
    return Outcome(str(job.id), attempt or job.attempt, outputs=OUTPUTS)


def failure(job: Job, code: ErrorCode, attempt: int | None = None, **fields: Any) -> Outcome:
    """Return the outcome of a job that failed."""
    return Outcome(str(job.id), attempt or job.attempt, failure=Failure(code, **{"message": "why", **fields}))


def result(*outcomes: Outcome) -> BundleResult:
    """Return a bundle's result as a worker sends it: read back from its message."""
    now = timezone.now().timestamp()
    run = Run(worker="cpu@host/7", host="host", device="cpu", started=now - 0.5, finished=now)
    return BundleResult.from_message(BundleResult(str(uuid4()), run, outcomes).to_message())


def take(room: dict[Lane, int] | None = None, turns: Turns | None = None) -> list[Claim]:
    """Claim what is due, as a dispatcher does that has this room (everywhere some) and remembers these turns (none)."""
    return claim(shares(ROOM if room is None else room), turns or Turns())


def shares(room: dict[Lane, int]) -> list[Share]:
    """Return the room as shares of all teams that wait."""
    return [Share(lane, room[lane], teams) for lane, teams in waiting().items() if lane in room]


def in_threads(*actions: Callable[[], Any]) -> list[Any]:
    """Run all actions at once, each in a thread with a connection of its own. Raises the first error."""
    together = threading.Barrier(len(actions))
    results: list[Any] = [None] * len(actions)
    errors: list[BaseException] = []

    def act(position: int) -> None:
        try:
            together.wait(20)
            results[position] = actions[position]()
        except BaseException as error:
            errors.append(error)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=act, args=(i,), daemon=True) for i in range(len(actions))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive(), "an action hangs"
    if errors:
        raise errors[0]
    return results


def make_app() -> Celery:
    """Return an app for the broker that the environment names."""
    app = Celery("test", set_as_current=False)
    app.config_from_object(celery_settings())
    return app


def drain(app: Celery, queue: str) -> list[Any]:
    """Take every message out of a queue; return the tasks' first arguments."""
    messages = []
    with connect(app) as connection, connection.channel() as channel:
        bound = declared(app, queue)(channel)
        while (message := bound.get()) is not None:
            args, _, _ = message.decode()
            messages.append(args[0])
            message.ack()
    return messages


def connect(app: Celery) -> Connection:
    """Return a connection to the app's broker."""
    connection: Connection = app.connection_for_read()
    return connection


def declared(app: Celery, name: str) -> Queue:
    """Return one of the app's queues."""
    return next(queue for queue in app.conf.task_queues if queue.name == name)
