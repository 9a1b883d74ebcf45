"""The messages between portal and workers: the only thing that both sides share at run time.

Standard library only. A receiver ignores keys that it doesn't know, so a field may be added within one version;
VERSION changes when an old receiver could misread a message. Times are seconds since the epoch (UTC).
"""

import base64
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, Self

VERSION = 1

INFER = "inference.infer"
STEP = "inference.step"
RECORD = "results.record"
STARTED = "results.started"
HEARTBEAT = "results.heartbeat"


class ErrorCode(StrEnum):
    """Why an attempt failed. Stable: stored with the job, decided upon by `jobs.retry`, mapped to HTTP by `errors`."""

    BAD_DATA = "bad-data"
    MODEL_ERROR = "model-error"
    MODEL_UNAVAILABLE = "model-unavailable"
    OUT_OF_MEMORY = "out-of-memory"
    # The data storage doesn't answer.
    STORAGE_AWAY = "storage-away"
    # The model's container can't be reached, is busy, or was gone before its answer was whole; it may have done it all.
    CONTAINER_UNAVAILABLE = "container-unavailable"
    # The model's container answered, but not what the manifest says.
    CONTAINER_ERROR = "container-error"
    # The process that ran it died, or its message came a second time, which means the same.
    WORKER_LOST = "worker-lost"
    TIMED_OUT = "timed-out"
    # A worker couldn't take the message: mostly one of another version, in the middle of an upgrade.
    MESSAGE_REFUSED = "message-refused"
    # Neither a result nor a reason came back in time.
    LEASE_EXPIRED = "lease-expired"
    # Its time to live was over before a worker could start it.
    EXPIRED = "expired"


class UnreadableMessage(ValueError):
    """A message that this version can't read. The broker dead-letters it; the jobs' lease brings them back."""


# What reading a message of another shape may raise.
_WRONG_SHAPE = (AttributeError, LookupError, OverflowError, RecursionError, TypeError, ValueError)


# What the database holds of whole numbers (PostgreSQL's smallint), and a calendar of seconds (to the year 10,000).
_MOST = 32_767
_END_OF_TIME = 253_402_300_800.0


def _require(message: Mapping[str, Any], kind: str) -> None:
    if not isinstance(message, Mapping):
        raise UnreadableMessage(f"{kind}: expected an object, got {type(message).__name__}")
    if message.get("v") != VERSION:
        raise UnreadableMessage(f"{kind}: version {message.get('v')!r} is not {VERSION}")


@dataclass(frozen=True, slots=True)
class JobItem:
    """One job's share of a bundle: `rows` consecutive rows of its matrix; not to be started after `expires`."""

    id: str
    attempt: int
    rows: int
    expires: float | None = None


@dataclass(frozen=True, slots=True)
class Bundle:
    """Jobs of one release for one predict call.

    `data` is the jobs' rows one after the other: little-endian float32, C order, `columns` wide, in signature order.
    `explain` asks for what each feature contributes, as one more output.
    `prefer` is for a model's container, as the header Prefer.
    With `step` it is instead one job, a batch's step of that kind, and `data` says what to do (see `workers.steps`).
    """

    id: str
    model: str
    version: str
    sha256: str
    columns: int
    jobs: tuple[JobItem, ...]
    data: bytes
    explain: bool = False
    step: str = ""
    prefer: str = ""

    def to_message(self) -> dict[str, Any]:
        """Return the JSON-ready message; `data` travels as base64."""
        return {
            "v": VERSION,
            "id": self.id,
            "model": self.model,
            "version": self.version,
            "sha256": self.sha256,
            "columns": self.columns,
            "jobs": [[job.id, job.attempt, job.rows] for job in self.jobs],
            "expires": [job.expires for job in self.jobs],
            "data": base64.b64encode(self.data).decode("ascii"),
            "explain": self.explain,
            "step": self.step,
        } | ({"prefer": self.prefer} if self.prefer else {})

    @classmethod
    def from_message(cls, message: Mapping[str, Any]) -> Self:
        """Read a message. Raises UnreadableMessage when its version or shape is not ours."""
        _require(message, "bundle")
        try:
            bundle = cls(
                id=str(message["id"]),
                model=str(message["model"]),
                version=str(message["version"]),
                sha256=str(message["sha256"]),
                columns=int(message["columns"]),
                jobs=_job_items(message["jobs"], message.get("expires") or [None] * len(message["jobs"])),
                data=base64.b64decode(message["data"], validate=True),
                explain=bool(message.get("explain", False)),
                step=str(message.get("step", "")),
                prefer=str(message.get("prefer", "")),
            )
        except _WRONG_SHAPE as error:
            raise UnreadableMessage(f"bundle: {error!r}") from error
        if not bundle.jobs or min(bundle.columns, *(job.rows for job in bundle.jobs)) < 1:
            raise UnreadableMessage("bundle: expected jobs, and at least one row and one column in each")
        if bundle.step:
            if len(bundle.jobs) != 1:
                raise UnreadableMessage(f"bundle: {len(bundle.jobs)} jobs in one step")
            return bundle
        expected = 4 * bundle.columns * sum(job.rows for job in bundle.jobs)
        if len(bundle.data) != expected:
            raise UnreadableMessage(f"bundle: {len(bundle.data)} bytes of data, expected {expected}")
        return bundle


@dataclass(frozen=True, slots=True)
class Failure:
    """Why one attempt of one job failed; the traceback is text for operators, never a pickled exception."""

    code: ErrorCode
    message: str
    traceback: str = ""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one attempt of one job: `outputs` (a JSON list of V2 tensors) or a failure."""

    id: str
    attempt: int
    outputs: str | None = None
    failure: Failure | None = None


@dataclass(frozen=True, slots=True)
class Run:
    """Where and when a bundle ran, and by which libraries. `finished` is None while it runs.

    The times are the worker's: of use to its recorder is only how long it took.
    """

    worker: str
    host: str
    device: str
    started: float
    finished: float | None = None
    libraries: str = ""


@dataclass(frozen=True, slots=True)
class BundleResult:
    """All outcomes of one bundle, recorded in one UPDATE."""

    bundle: str
    run: Run
    outcomes: tuple[Outcome, ...]

    def to_message(self) -> dict[str, Any]:
        """Return the JSON-ready message."""
        return {
            "v": VERSION,
            "bundle": self.bundle,
            "run": asdict(self.run),
            "outcomes": [asdict(o) for o in self.outcomes],
        }

    @classmethod
    def from_message(cls, message: Mapping[str, Any]) -> Self:
        """Read a message. Raises UnreadableMessage when its version or shape is not ours."""
        _require(message, "result")
        try:
            return cls(
                bundle=str(message["bundle"]),
                run=_run(message["run"]),
                outcomes=tuple(_outcome(o) for o in message["outcomes"]),
            )
        except _WRONG_SHAPE as error:
            raise UnreadableMessage(f"result: {error!r}") from error


@dataclass(frozen=True, slots=True)
class Started:
    """A bundle that takes long enough to be seen is running now."""

    bundle: str
    run: Run
    jobs: tuple[tuple[str, int], ...]

    def to_message(self) -> dict[str, Any]:
        """Return the JSON-ready message."""
        return {"v": VERSION, "bundle": self.bundle, "run": asdict(self.run), "jobs": [list(j) for j in self.jobs]}

    @classmethod
    def from_message(cls, message: Mapping[str, Any]) -> Self:
        """Read a message. Raises UnreadableMessage when its version or shape is not ours."""
        _require(message, "started")
        try:
            jobs = tuple((str(i), _count(a)) for i, a in message["jobs"])
            return cls(bundle=str(message["bundle"]), run=_run(message["run"]), jobs=jobs)
        except _WRONG_SHAPE as error:
            raise UnreadableMessage(f"started: {error!r}") from error


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """A worker is alive: which lanes it reads, on what device, how many bundles it runs at once, what it can serve.

    `problems` are the releases that it should serve and can't, each with the reason.
    """

    worker: str
    host: str
    pools: tuple[str, ...]
    device: str
    processes: int
    models: tuple[str, ...]
    sent: float
    problems: tuple[str, ...] = ()

    def to_message(self) -> dict[str, Any]:
        """Return the JSON-ready message."""
        return {"v": VERSION, **asdict(self)}

    @classmethod
    def from_message(cls, message: Mapping[str, Any]) -> Self:
        """Read a message. Raises UnreadableMessage when its version or shape is not ours."""
        _require(message, "heartbeat")
        try:
            return cls(
                worker=str(message["worker"]),
                host=str(message["host"]),
                pools=tuple(str(p) for p in message["pools"]),
                device=str(message["device"]),
                processes=_count(message["processes"]),
                models=tuple(str(m) for m in message["models"]),
                sent=_moment(message["sent"]),
                problems=tuple(str(p) for p in message.get("problems", ())),
            )
        except _WRONG_SHAPE as error:
            raise UnreadableMessage(f"heartbeat: {error!r}") from error


def _count(value: Any) -> int:
    number = int(value)
    if not 1 <= number <= _MOST:
        raise ValueError(f"{number:.3g} is not between 1 and {_MOST}")
    return number


def _moment(value: Any) -> float:
    seconds = float(value)
    if not 0.0 <= seconds < _END_OF_TIME:
        raise ValueError(f"{seconds} is no time in seconds since the epoch")
    return seconds


def _job_items(jobs: list[Any], expires: list[Any]) -> tuple[JobItem, ...]:
    return tuple(
        JobItem(str(job_id), _count(attempt), int(rows), None if until is None else _moment(until))
        for (job_id, attempt, rows), until in zip(jobs, expires, strict=True)
    )


def _run(message: Mapping[str, Any]) -> Run:
    finished = message.get("finished")
    return Run(
        worker=str(message["worker"]),
        host=str(message["host"]),
        device=str(message["device"]),
        started=_moment(message["started"]),
        finished=None if finished is None else _moment(finished),
        libraries=str(message.get("libraries", ""))[:255],
    )


def _outcome(message: Mapping[str, Any]) -> Outcome:
    failure = message.get("failure")
    outputs = message.get("outputs")
    if (failure is None) == (outputs is None):
        raise ValueError("an outcome has either outputs or a failure")
    return Outcome(
        id=str(message["id"]),
        attempt=_count(message["attempt"]),
        outputs=None if outputs is None else str(outputs),
        failure=None
        if failure is None
        else Failure(ErrorCode(failure["code"]), str(failure["message"]), str(failure.get("traceback", ""))),
    )
