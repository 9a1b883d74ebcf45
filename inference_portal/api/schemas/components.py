"""What the OpenAPI page refers to by name, as JSON schemas, and the hook that puts it there."""

from typing import Any, get_args

from inference_portal.api import job_options, submission
from inference_portal.batches import asked, fields
from inference_portal.batches.schedules import asked as schedule_asked
from inference_portal.batches.schedules.due import MAX_CRON, MAX_SECONDS, MIN_SECONDS
from inference_portal.batches.schedules.models import MAX_NAME, Kind, Outcome
from inference_portal.batches.schedules.policy import CatchUp, Overlap
from inference_portal.batches.states import State as BatchState
from inference_portal.catalog.models import Action
from inference_portal.catalog.versions import State as VersionState
from inference_portal.deliveries import events
from inference_portal.deliveries.models.endpoint import MAX_URL
from inference_portal.deliveries.states import State as DeliveryState
from inference_portal.errors import PROBLEMS
from inference_portal.jobs import dead_letters
from inference_portal.jobs.states import State
from workers.datasets import uris
from workers.formats.json_v2 import DATATYPES_READ

Schema = dict[str, Any]

# The requests whose body may be left out.
_WITHOUT_BODY = {
    "jobs_rerun",
    "batches_rerun",
    "dead_letters_replay",
    "repository_index",
    "models_release",
    "models_rollback",
    "schedules_run_now",
    "deliveries_redeliver",
    "webhooks_test",
    "webhooks_rotate",
}


def ref(name: str) -> Schema:
    """Refer to one of SCHEMAS."""
    return {"$ref": f"#/components/schemas/{name}"}


def record(optional: Schema | None = None, /, **required: Schema) -> Schema:
    """Return the schema of an object that has these fields and no other."""
    return {
        "type": "object",
        "properties": required | (optional or {}),
        "required": list(required),
        "additionalProperties": False,
    }


def array(items: Schema, **bounds: int) -> Schema:
    """Return the schema of a list."""
    return {"type": "array", "items": items, **bounds}


def or_null(schema: Schema) -> Schema:
    """Allow null, too."""
    if isinstance(schema.get("type"), str):
        nothing: list[None] = [None] if "enum" in schema else []
        return schema | {"type": [schema["type"], "null"]} | ({"enum": [*schema["enum"], *nothing]} if nothing else {})
    return {"anyOf": [schema, {"type": "null"}]}


def page(entries: Schema) -> Schema:
    """Return the schema of one page of a list."""
    link = {"type": ["string", "null"], "format": "uri", "example": "https://portal.example/api/jobs/?cursor=YWZ0ZXI"}
    return record(next=link, previous=link, results=entries)


TEXT: Schema = {"type": "string"}
UUID: Schema = {"type": "string", "format": "uuid"}
TIME: Schema = {"type": "string", "format": "date-time"}
COUNT: Schema = {"type": "integer", "minimum": 0}
NUMBER: Schema = {"type": "number"}
BOOLEAN: Schema = {"type": "boolean"}
SHA256: Schema = {"type": "string", "pattern": "^[0-9a-f]{64}$"}
# What a database can look for: without NUL.
FILTER: Schema = {"type": "string", "pattern": "^[^\\x00]+$"}
STATE: Schema = {"type": "string", "enum": [state.value for state in State]}
BATCH_STATE: Schema = {"type": "string", "enum": [state.value for state in BatchState]}
CHUNK_STATE: Schema = {"type": "string", "enum": ["open", "done", "failed"]}
PRIORITY: Schema = {"type": "string", "enum": ["high", "normal", "low"]}
TTL: Schema = {"type": "number", "exclusiveMinimum": 0, "maximum": job_options.MAX_TTL_SECONDS}
BINARY: Schema = {"type": "string", "format": "binary"}
# An address is checked in more ways than a pattern can say: no user name, no private address.
URL: Schema = {"type": "string", "maxLength": MAX_URL, "pattern": r"^https?://[!-\[\]-~]+$"}
SINK_NAME: Schema = {"type": "string", "pattern": "^[a-z0-9_-]{1,50}$"}
_KEY: Schema = {
    "type": "string",
    "minLength": 1,
    "maxLength": job_options.MAX_KEY_LENGTH,
    "description": "printable characters",
}
_REASON: Schema = {
    "type": "string", "minLength": 1, "maxLength": 1_000, "pattern": "^[^\\x00]*$", "description": "for the audit log"
}  # fmt: skip
_IDS = array(UUID, minItems=1, maxItems=dead_letters.MAX_BULK)
_DIMENSIONS = array({"type": "integer", "minimum": -1})
# Where nothing can follow the JSON.
_TENSORS = array({"allOf": [ref("Tensor")], "required": ["data"]}, minItems=1)
_CELL: Schema = {"type": ["number", "string", "null"]}
_PART = record(count=COUNT, ns=COUNT)
_AMOUNT: Schema = {"type": "number", "minimum": 0}

_ATTEMPT = {
    "number": COUNT, "worker": TEXT, "host": TEXT, "device": TEXT, "started_at": or_null(TIME), "finished_at":
    or_null(TIME), "code": TEXT, "message": TEXT,
}  # fmt: skip
_JOB = {
    "id": UUID,
    "team": TEXT,
    "submitted_by": TEXT,
    "model": TEXT,
    "version": TEXT,
    "state": STATE,
    "priority": PRIORITY,
    "ordering_key": TEXT,
    "labels": array(TEXT),
    "attempt": COUNT,
    "failures": COUNT,
    "isolated": BOOLEAN,
    "rows": COUNT,
    "accepted_at": TIME,
    "queued_at": TIME,
    "expires_at": or_null(TIME),
    "started_at": or_null(TIME),
    "finished_at": or_null(TIME),
    "purged_at": or_null(TIME),
    "worker": TEXT,
    "host": TEXT,
    "device": TEXT,
    "error": or_null(ref("JobError")),
    "status_path": TEXT,
    "result_path": TEXT,
}
_DEAD_LETTER = {
    "id": UUID,
    "team": TEXT,
    "submitted_by": TEXT,
    "model": TEXT,
    "version": TEXT,
    "rows": COUNT,
    "attempt": COUNT,
    "isolated": BOOLEAN,
    "reason": ref("JobError"),
    "worker": TEXT,
    "accepted_at": TIME,
    "finished_at": TIME,
    "discarded_at": or_null(TIME),
}
_NEW_INPUT: Schema = {
    "version": or_null(TEXT | {"description": "another version of the model"}),
    "inputs": _TENSORS | {"description": "another input as V2 tensors; or:"},
    "rows": ref("Rows"),
}
_ANY: Schema = {"type": ["number", "string", "array", "null"]}
_PERCENT: Schema = {"type": "number", "minimum": 0, "maximum": 100}
_MODEL = {
    "name": TEXT,
    "description": TEXT,
    "versions": array(TEXT, minItems=1),
    "traffic": array(record(version=TEXT, weight=_PERCENT)),
    "problems": array(TEXT),
}
_VERSION = {
    "model": TEXT,
    "version": TEXT,
    "state": {"type": "string", "enum": list(get_args(VersionState))},
    "weight": _PERCENT,
    "ready": BOOLEAN,
    "sha256": SHA256,
    "template": COUNT,
    "runtime": TEXT,
    "pool": TEXT,
    "description": TEXT,
}
_SIGNATURE = array(record(name=TEXT, datatype=TEXT, shape=_DIMENSIONS), minItems=1)
_SPLIT = array(record(version=TEXT, sha256=SHA256, weight=_PERCENT))
_WHY: Schema = {"reason": or_null(_REASON | {"minLength": 0, "description": "kept in the history"})}
_ACCEPTED = {"Id": UUID, "StatusPath": TEXT, "ResultPath": TEXT}
_BULK_ACCEPTED = record(status={"const": 202}, **_ACCEPTED)


_PROBLEM = {
    "type": {"type": "string", "enum": [f"/problems/{slug}" for slug in PROBLEMS]},
    "title": TEXT,
    "status": {"type": "integer", "minimum": 400, "maximum": 599},
    "detail": TEXT,
    "instance": TEXT,
    "retryable": BOOLEAN,
}
_FAULTS = array(record(pointer=TEXT, detail=TEXT), minItems=1)
_CHECKS = {"database": TEXT, "model_store": TEXT, "broker": TEXT, "workers": TEXT, "isolation": TEXT}


_URI: Schema = {"type": "string", "minLength": 1, "maxLength": uris.MAX_LENGTH}
_NAME: Schema = {"type": "string", "minLength": 1, "maxLength": 255, "description": "printable characters"}
_MARK: Schema = {"type": "string", "pattern": "^[\\t -~]$"}
_POLICY: Schema = {"type": "string", "enum": list(fields.POLICIES)}
_POLICY_TOLD: Schema = or_null(_POLICY) | {
    "description": "what runs again after a failure: partial, the failed chunks; all, the whole run; none, nothing"
}
_DEADLINE: Schema = or_null(TIME) | {"description": "with a zone, in the future; past it the batch fails"}
_INPUT = {
    "format": {"type": "string", "enum": list(fields.INPUT_FORMATS)},
    "delimiter": _MARK,
    "quote": _MARK,
    "encoding": {"type": "string", "pattern": "^[A-Za-z0-9_.:-]{1,40}$"},
    "header": BOOLEAN,
}
_INPUT_ASKED = record(
    {
        "format": or_null(_INPUT["format"]) | {"description": "auto, unless told: by the name"},
        "delimiter": or_null(_MARK) | {"description": "of CSV; a comma unless told"},
        "quote": or_null(_MARK) | {"description": "of CSV; the double quote unless told"},
        "encoding": or_null(_INPUT["encoding"]) | {"description": "of CSV; utf-8 unless told"},
        "header": or_null(BOOLEAN)
        | {
            "description": "of CSV: whether the first line names the columns; false: they are the signature's, in order"
        },
    },
    uri=_URI | {"description": "store://… as an upload answers, file:///…, s3://…; a file, or a folder of files"},
)
_OUTPUT_ASKED = record(
    {
        "uri": or_null(_URI) | {"description": "file:///… or s3://…; without it the system's own storage"},
        "format": or_null({"type": "string", "enum": list(asked.FORMATS)}),
    }
)
_BATCH = {
    "id": UUID,
    "team": TEXT,
    "submitted_by": TEXT,
    "model": TEXT,
    "version": TEXT,
    "model_sha256": SHA256,
    "state": BATCH_STATE,
    "note": TEXT | {"description": "what it waits for, in plain words"},
    "input": {"type": "object", "properties": {"uri": TEXT, **_INPUT}, "required": ["uri"]},
    "output": {"type": "object", "properties": {"uri": or_null(TEXT), "format": TEXT}},
    "keep_columns": array(TEXT),
    "chunk_rows": COUNT,
    "retry_policy": _POLICY,
    "max_attempts": COUNT,
    "error_threshold": or_null(NUMBER),
    "deadline": or_null(TIME),
    "at_risk": BOOLEAN | {"description": "by the estimate it won't be done by its deadline"},
    "eta": or_null(TIME),
    "attempts": COUNT,
    "rows_total": or_null(COUNT) | {"description": "null until the data set has been looked at"},
    "rows_done": COUNT,
    "rows_failed": COUNT,
    "rows_per_second": or_null(NUMBER) | {"description": "by the estimate, like the next"},
    "seconds_left": or_null(NUMBER),
    "chunks": record(total=COUNT, done=COUNT),
    "created_at": TIME,
    "started_at": or_null(TIME),
    "finished_at": or_null(TIME),
    "error": or_null(ref("JobError")),
    "schedule": or_null(UUID),
    "due_at": or_null(TIME),
    "purged_at": or_null(TIME),
}
_ROW_ERROR = record(row=COUNT, column=TEXT, reason=TEXT)
_REHEARSAL = record(
    before_seconds={"type": "integer", "minimum": 1, "maximum": schedule_asked.MAX_BEFORE_SECONDS},
    rows={"type": "integer", "minimum": 1, "maximum": schedule_asked.MAX_REHEARSED_ROWS},
)
_SCHEDULE_NAME: Schema = {
    "type": "string", "minLength": 1, "maxLength": MAX_NAME, "description": "unique in the team"
}  # fmt: skip
_CRON: Schema = {"type": ["string", "null"], "maxLength": MAX_CRON}
_EVERY: Schema = or_null({"type": "integer", "minimum": MIN_SECONDS, "maximum": MAX_SECONDS})
_CATCH_UP: Schema = {"type": "string", "enum": list(CatchUp), "description": "what becomes of runs that were missed"}
_OVERLAP: Schema = {"type": "string", "enum": list(Overlap), "description": "what, while the one before is under way"}
_SCHEDULED_BATCH: Schema = {"type": "object", "description": "what POST /api/batches/ takes"}
_SCHEDULE_OPTIONS = {
    "cron": _CRON,
    "every_seconds": _EVERY,
    "at": or_null(TIME),
    "timezone": or_null(TEXT),
    "catch_up": or_null(_CATCH_UP),
    "overlap": or_null(_OVERLAP),
    "rehearsal": or_null(_REHEARSAL),
    "enabled": or_null(BOOLEAN),
}
_SCHEDULE = {
    "id": UUID,
    "team": TEXT,
    "submitted_by": TEXT,
    "name": _SCHEDULE_NAME,
    "cron": _CRON,
    "every_seconds": _EVERY,
    "at": or_null(TIME),
    "timezone": TEXT,
    "batch": _SCHEDULED_BATCH,
    "catch_up": _CATCH_UP,
    "overlap": _OVERLAP,
    "rehearsal": or_null(_REHEARSAL),
    "enabled": BOOLEAN,
    "created_at": TIME,
    "last_due_at": or_null(TIME) | {"description": "of the last run that was made"},
    "next_due_at": or_null(TIME),
    "next_rehearsal_at": or_null(TIME),
}


_DELIVERY = {
    "id": UUID,
    "team": TEXT,
    "job": or_null(UUID),
    "batch": or_null(UUID),
    "event_id": TEXT,
    "event_type": TEXT,
    "webhook": or_null(UUID) | {"description": "null: a sink, an address that the request named, or it was removed"},
    "sink": or_null(TEXT),
    "url": TEXT | {"description": "empty for a sink"},
    "state": {"type": "string", "enum": [state.value for state in DeliveryState]},
    "tries": COUNT,
    "status": or_null(COUNT) | {"description": "of the last answer"},
    "error": TEXT,
    "created_at": TIME,
    "due_at": or_null(TIME) | {"description": "when it is tried next"},
    "finished_at": or_null(TIME),
}
_DELIVERY_ATTEMPT = {
    "number": COUNT,
    "at": TIME,
    "seconds": or_null(_AMOUNT),
    "status": or_null(COUNT),
    "error": TEXT,
    "excerpt": TEXT | {"description": "the beginning of the answer"},
}
_WEBHOOK = {
    "id": UUID,
    "team": TEXT,
    "submitted_by": TEXT,
    "url": TEXT,
    "events": array(TEXT) | {"description": "types of events, or beginnings with a *; empty: all"},
    "enabled": BOOLEAN,
    "disabled_reason": TEXT | {"description": "why it was turned off, if not by hand"},
    "succeeded_at": or_null(TIME),
    "old_secret_until": or_null(TIME) | {"description": "until when the key before signs, too"},
    "created_at": TIME,
}
_SECRET: Schema = {"type": "string", "pattern": "^whsec_[A-Za-z0-9+/]{43}=$"}
_EVENTS = array({"type": "string", "enum": [*events.TYPES, "inference.job.*", "inference.batch.*", "*"]})


def _bulk(done: Schema) -> Schema:
    return record(results=array({"anyOf": [done, ref("ProblemOfMany")]}))


# What may be asked of a job that was accepted.
_LINKS = {
    operation: {"operationId": operation, "parameters": {"job_id": "$response.body#/Id"}}
    for operation in (
        "job_status", "job_result", "jobs_detail", "jobs_events", "jobs_cancel", "jobs_rerun", "jobs_receipt",
    )
}  # fmt: skip

SCHEMAS: dict[str, Schema] = {
    # Errors
    "Problem": record(
        {"errors": _FAULTS, "error": TEXT | {"description": "under /v2: the detail once more, for V2 clients"}},
        **_PROBLEM,
    ),
    "V2Problem": {"allOf": [ref("Problem")], "required": ["error"]},
    "ProblemOfMany": record(
        {
            "errors": _FAULTS,
            "retry_after": COUNT | {"description": "of 429 and 503: in how many seconds it's worth trying again"},
        },
        **_PROBLEM,
    ),
    # Inference
    "Rows": {
        "description": "each a list of values in the order of the signature, or each an object by column",
        "anyOf": [
            array({"type": "object", "additionalProperties": _CELL}, minItems=1),
            array(array(_CELL), minItems=1),
        ],
    },
    "Tensor": {
        "type": "object",
        "properties": {
            "name": TEXT,
            "shape": array({"type": "integer", "minimum": 0, "maximum": 2**63 - 1}, minItems=1, maxItems=2),
            "datatype": {"type": "string", "enum": list(DATATYPES_READ)},
            "data": array({"type": ["number", "string", "boolean", "null", "array"]}),
            "parameters": {"type": "object", "properties": {"binary_data_size": COUNT}},
        },
        "required": ["name", "shape", "datatype"],
        "anyOf": [
            {"required": ["data"]},
            {"required": ["parameters"], "properties": {"parameters": {"required": ["binary_data_size"]}}},
        ],
    },
    "InferRequest": {
        "type": "object",
        "properties": {
            "instances": ref("Rows"),
            "inputs": array(ref("Tensor"), minItems=1),
            "id": or_null({"type": "string", "maxLength": 255, "pattern": "^[^\\x00]*$"}),
            "outputs": or_null(array({"type": "object", "properties": {"name": TEXT}, "required": ["name"]})),
            "parameters": or_null({"type": "object", "properties": {"binary_data_output": BOOLEAN}}),
        },
        "oneOf": [{"required": ["instances"]}, {"required": ["inputs"]}],
    },
    "V2Answer": record(
        model_name=TEXT,
        model_version=TEXT,
        id=TEXT,
        outputs=array(
            record(
                name=TEXT,
                datatype={"type": "string", "enum": ["FP32", "BYTES"]},
                shape=array(COUNT, minItems=1, maxItems=2),
                data=array({"type": ["number", "string", "null"]}),
            )
        ),
    ),
    "Predictions": record(predictions=array({"type": ["number", "string", "array", "object", "null"]}, minItems=1)),
    "Accepted": record(**_ACCEPTED),
    "JobError": record(code=TEXT, message=TEXT),
    "Status": record(
        Id=UUID,
        Status={"type": "string", "enum": ["Initialized", "Queue", "Inference", "Completed"]},
        State=STATE,
        Error=or_null(ref("JobError")),
        Attempts=COUNT,
        QueuePosition=or_null(COUNT) | {"description": "an estimate; null unless it waits"},
        QueuedAt=TIME | {"description": "when it was accepted, or put back into the queue"},
        StartedAt=or_null(TIME),
        FinishedAt=or_null(TIME),
        QueueSeconds=or_null(NUMBER),
        RunSeconds=or_null(NUMBER),
    ),
    # Jobs
    "JobCreate": record(
        {
            "version": or_null(TEXT),
            "inputs": _TENSORS | {"description": "V2 tensors; or:"},
            "rows": ref("Rows") | {"description": "rows as lists or objects; or:"},
            "input_uri": _URI | {"description": "a file with them: store://… as an upload answers, file:///…, s3://…"},
            "priority": or_null(PRIORITY),
            "ttl_seconds": or_null(TTL) | {"description": "not started by then: expired"},
            "ordering_key": or_null(_KEY) | {"description": "one after the other; printable characters"},
            "webhook": or_null(URL) | {"description": "where to tell of its end; a public address"},
            "sink": or_null(SINK_NAME) | {"description": "where to put its result; an operator has configured it"},
            "idempotency_key": or_null(_KEY)
            | {"description": "sent again with the same body, it is the same job; printable characters"},
            "labels": or_null(
                array(
                    {
                        "type": "string",
                        "minLength": 1,
                        "maxLength": submission.MAX_LABEL_LENGTH,
                        "description": "printable",
                    },
                    maxItems=submission.MAX_LABELS,
                )
            ),
        },
        model=TEXT,
    )
    | {"oneOf": [{"required": [each]} for each in ("inputs", "rows", "input_uri")]},
    "JobBulk": record(jobs=array(ref("JobCreate"), minItems=1, maxItems=submission.MAX_BULK)),
    "JobBulkAnswer": _bulk(_BULK_ACCEPTED),
    "Job": record(**_JOB),
    "JobDetail": record(
        **_JOB, idempotency_key=TEXT, sink=TEXT, attempts=array(record(**_ATTEMPT)), deliveries=array(ref("Delivery"))
    ),
    "Event": record(
        {"event": {"const": "message"}, "retry": COUNT},
        id=TEXT | {"description": "to be sent as Last-Event-ID"},
        data=TEXT | {"contentMediaType": "application/json", "contentSchema": ref("Status")},
    ),
    "Rerun": record({"version": or_null(TEXT)}),
    "Receipt": record(
        id=UUID,
        model=TEXT,
        version=TEXT,
        model_sha256=SHA256,
        input_sha256=SHA256,
        rows=COUNT,
        libraries={"type": "object", "additionalProperties": TEXT},
        device=TEXT,
        worker=TEXT,
        host=TEXT,
        attempt=COUNT,
        accepted_at=TIME,
        queued_at=TIME,
        started_at=or_null(TIME),
        finished_at=TIME,
    ),
    # Batches
    "Uploaded": record(uri=TEXT, bytes=COUNT, sha256=SHA256),
    "BatchCreate": record(
        {
            "version": or_null(TEXT),
            "output": or_null(_OUTPUT_ASKED),
            "keep_columns": or_null(array(_NAME, maxItems=asked.MAX_KEPT) | {"uniqueItems": True})
            | {"description": "columns of the input that go before the predictions"},
            "chunk_rows": or_null({"type": "integer", "minimum": 1, "maximum": asked.MAX_CHUNK_ROWS}),
            "retry_policy": _POLICY_TOLD,
            "max_attempts": or_null({"type": "integer", "minimum": 1, "maximum": asked.MAX_ATTEMPTS}),
            "error_threshold": or_null({"type": "number", "minimum": 0, "maximum": 1})
            | {"description": "the share of rows that may fail; more end the run at once"},
            "deadline": _DEADLINE,
        },
        model=_NAME,
        input=_INPUT_ASKED,
    ),
    "BatchChange": record({"retry_policy": or_null(_POLICY), "deadline": _DEADLINE}) | {"minProperties": 1},
    "BatchRerun": record({"retry_policy": or_null({"type": "string", "enum": list(fields.RERUN_POLICIES)})}),
    "Batch": record(**_BATCH),
    "BatchDetail": record(
        **_BATCH,
        receipt=or_null({"type": "object"}),
        carried=or_null({}),
        history=array(record(at=TIME, kind=TEXT, text=TEXT)),
    ),
    "BatchEvent": record(
        {"event": {"const": "message"}, "retry": COUNT},
        id=TEXT | {"description": "to be sent as Last-Event-ID"},
        data=TEXT | {"contentMediaType": "application/json", "contentSchema": ref("BatchDetail")},
    ),
    "Chunk": record(
        number=COUNT,
        first_row=COUNT,
        rows=COUNT,
        attempt=COUNT,
        state=CHUNK_STATE,
        rows_failed=COUNT,
        reason=TEXT,
        job=or_null(UUID),
    ),
    "RowErrors": record(results=array(_ROW_ERROR, maxItems=1_000), more=BOOLEAN),
    # Dead letters
    "DeadLetter": record(**_DEAD_LETTER),
    "DeadLetterDetail": record(
        **_DEAD_LETTER,
        attempts=array(record(**_ATTEMPT, traceback=TEXT)),
        input=or_null(record(rows=ref("Rows"))),
        audit=array(record(at=TIME, who=TEXT, action=TEXT, reason=TEXT, changes={"type": "object"})),
    ),
    "Replay": record(_NEW_INPUT) | {"not": {"required": ["inputs", "rows"]}},
    "Discard": record(reason=_REASON),
    "BulkReplay": record({"version": or_null(TEXT)}, ids=_IDS),
    "BulkReplayAnswer": _bulk(_BULK_ACCEPTED),
    "BulkDiscard": record(ids=_IDS, reason=_REASON),
    "BulkDiscardAnswer": _bulk(record(status={"const": 200}, **_DEAD_LETTER)),
    "ParkedMessage": record(
        id=COUNT,
        received_at=TIME,
        queue=TEXT,
        reason=TEXT,
        error=TEXT,
        headers=TEXT,
        body=TEXT,
        size=COUNT,
        discarded_at=or_null(TIME),
    ),
    # What operators watch
    "Queues": record(
        results=array(
            record(
                lane=TEXT,
                pool=TEXT,
                isolated=BOOLEAN,
                rows=COUNT,
                messages=COUNT,
                running=COUNT,
                retrying=COUNT,
                oldest_wait_seconds=_AMOUNT,
                consumers=COUNT,
                rate=_AMOUNT,
                dead_letters=COUNT,
            )
        )
    ),
    "Workers": record(
        results=array(
            record(
                name=TEXT,
                alive=BOOLEAN,
                seen_at=TIME,
                host=TEXT,
                pools=array(TEXT),
                device=TEXT,
                processes=COUNT,
                models=array(TEXT),
                problems=array(TEXT),
                runs=array(
                    record(
                        process=TEXT,
                        model=TEXT,
                        version=TEXT,
                        jobs=COUNT,
                        rows=COUNT,
                        started_at=or_null(TIME),
                        job=UUID,
                    )
                ),
            )
        )
    ),
    # The server and its models
    "Server": record(name=TEXT, version=TEXT, extensions=array(TEXT)),
    "Live": record(live={"const": True}),
    "Ready": record(ready={"const": True}),
    "ModelReady": record(name=TEXT, ready={"const": True}),
    "Model": record(
        name=TEXT,
        versions=array(TEXT, minItems=1),
        platform=TEXT,
        inputs=array(record(name=TEXT, datatype=TEXT, shape=_DIMENSIONS), minItems=1),
        outputs=array(record(name=TEXT, datatype=TEXT, shape=_DIMENSIONS), minItems=1),
    ),
    "ModelConfig": record(
        name=TEXT,
        platform=TEXT,
        backend=TEXT,
        version_policy=record(specific=record(versions=array(COUNT))),
        max_batch_size=COUNT,
        input=array(record(name=TEXT, data_type=TEXT, dims=_DIMENSIONS), minItems=1),
        output=array(record(name=TEXT, data_type=TEXT, dims=_DIMENSIONS), minItems=1),
    ),
    "ModelStats": record(
        model_stats=array(
            record(
                name=TEXT,
                version=TEXT,
                last_inference=COUNT,
                inference_count=COUNT,
                execution_count=COUNT,
                inference_stats=record(
                    success=_PART,
                    fail=_PART,
                    queue=_PART,
                    compute_input=_PART,
                    compute_infer=_PART,
                    compute_output=_PART,
                    cache_hit=_PART,
                    cache_miss=_PART,
                ),
                batch_stats=array({"type": "object"}),
            ),
            minItems=1,
        )
    ),
    "RepositoryIndex": {"type": "object", "properties": {"ready": BOOLEAN}},
    "RepositoryIndexAnswer": array(
        record(name=TEXT, version=TEXT, state={"type": "string", "enum": ["READY", "UNAVAILABLE"]}, reason=TEXT)
    ),
    # Models and releases
    "Models": record(results=array(record(**_MODEL))),
    "ModelDetail": record(**_MODEL, events=array(ref("ReleaseEvent"))),
    "Versions": record(results=array(record(**_VERSION))),
    "Version": record(
        **_VERSION,
        manifest={"type": "object"} | {"description": "the whole manifest, with the defaults of what it leaves out"},
        signature=record(inputs=_SIGNATURE, outputs=_SIGNATURE),
        golden_check=or_null(record(job=UUID, rows=COUNT, at=TIME, who=TEXT)),
    ),
    "Release": record(
        {
            "weight": or_null({"type": "integer", "minimum": 1, "maximum": 100})
            | {"description": "percent of the requests without a version; 100 unless told"},
            **_WHY,
        }
    ),
    "Rollback": record(_WHY),
    "ReleaseEvent": record(
        id=COUNT,
        at=TIME,
        who=TEXT,
        reason=TEXT,
        action={"type": "string", "enum": Action.values},
        model=TEXT,
        version=TEXT,
        sha256=SHA256,
        template=or_null(COUNT),
        before=_SPLIT,
        after=_SPLIT,
        golden=or_null(record(job=UUID, rows=COUNT)),
    ),
    "Refused": record(
        {
            "differences": array(record(row=COUNT, output=TEXT, expected=_ANY, got=_ANY), minItems=1)
            | {"description": "of golden-mismatch: the first values that aren't the expected ones"}
        },
        **_PROBLEM,
    ),
    # Schedules
    "ScheduleCreate": record(_SCHEDULE_OPTIONS, name=_SCHEDULE_NAME, batch=_SCHEDULED_BATCH)
    | {
        "anyOf": [
            {"required": [name], "properties": {name: {"not": {"type": "null"}}}} for name in schedule_asked.RULES
        ]
    },
    "ScheduleChange": record({"name": or_null(_SCHEDULE_NAME), "batch": or_null(_SCHEDULED_BATCH), **_SCHEDULE_OPTIONS})
    | {"minProperties": 1},
    "Schedule": record(**_SCHEDULE),
    "ScheduleDetail": record(**_SCHEDULE, upcoming=array(TIME) | {"description": "its next instants"}),
    "ScheduleRun": record(
        due_at=TIME,
        kind={"type": "string", "enum": Kind.values},
        outcome={"type": "string", "enum": Outcome.values},
        why=TEXT,
        warnings=array(TEXT) | {"description": "of a rehearsal: what has changed, or is stale"},
        batch=or_null(UUID),
        state=or_null(TEXT) | {"description": "its batch's"},
        decided_at=TIME,
        made_at=or_null(TIME),
    ),
    "RunNow": record(),
    # Deliveries
    "Nothing": record(),
    "Delivery": record(**_DELIVERY),
    "DeliveryDetail": record(**_DELIVERY, attempts=array(record(**_DELIVERY_ATTEMPT))),
    "Webhook": record(**_WEBHOOK),
    "WebhookWithSecret": record(**_WEBHOOK, secret=_SECRET),
    "WebhookSecret": record(secret=_SECRET),
    "WebhookCreate": record({"events": _EVENTS, "enabled": BOOLEAN}, url=URL),
    "WebhookChange": record({"url": URL, "events": _EVENTS, "enabled": BOOLEAN}) | {"minProperties": 1},
    "Alive": record(status={"const": "ok"}),
    "Checks": record(**_CHECKS),
    "ChecksFailed": record(**_PROBLEM, **_CHECKS),
}


def add_components(result: Schema, **_: Any) -> Schema:
    """Put SCHEMAS into the document (SPECTACULAR_SETTINGS), and mend what the views can't say.

    That is which request needs a body, which of two paths of the same view has a version, and what can be asked of a
    job that was accepted.
    """
    result["components"].setdefault("schemas", {}).update(SCHEMAS)
    for path, methods in result["paths"].items():
        for operation in methods.values():
            operation["parameters"] = [
                parameter
                for parameter in operation.get("parameters", [])
                if parameter["in"] != "path" or f"{{{parameter['name']}}}" in path
            ]
            accepted = operation["responses"].get("202")
            if accepted is not None and accepted["content"]["application/json"]["schema"] == ref("Accepted"):
                accepted["links"] = _LINKS
            if "requestBody" in operation:
                operation["requestBody"]["required"] = operation["operationId"] not in _WITHOUT_BODY
    return result
