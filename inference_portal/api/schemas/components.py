"""What the OpenAPI page refers to by name, as JSON schemas, and the hook that puts it there."""

from typing import Any

from inference_portal.api import job_options, submission
from inference_portal.errors import PROBLEMS
from inference_portal.jobs import dead_letters
from inference_portal.jobs.states import State
from workers.formats.json_v2 import DATATYPES_READ

Schema = dict[str, Any]

# The requests whose body may be left out.
_WITHOUT_BODY = {"jobs_rerun", "dead_letters_replay", "repository_index"}


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
PRIORITY: Schema = {"type": "string", "enum": ["high", "normal", "low"]}
TTL: Schema = {"type": "number", "exclusiveMinimum": 0, "maximum": job_options.MAX_TTL_SECONDS}
BINARY: Schema = {"type": "string", "format": "binary"}
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
            "rows": ref("Rows"),
            "priority": or_null(PRIORITY),
            "ttl_seconds": or_null(TTL) | {"description": "not started by then: expired"},
            "ordering_key": or_null(_KEY) | {"description": "one after the other; printable characters"},
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
    | {"oneOf": [{"required": ["inputs"]}, {"required": ["rows"]}]},
    "JobBulk": record(jobs=array(ref("JobCreate"), minItems=1, maxItems=submission.MAX_BULK)),
    "JobBulkAnswer": _bulk(_BULK_ACCEPTED),
    "Job": record(**_JOB),
    "JobDetail": record(
        **_JOB, idempotency_key=TEXT, attempts=array(record(**_ATTEMPT)), deliveries=array({"type": "object"})
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
