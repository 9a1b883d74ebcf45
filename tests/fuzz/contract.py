"""Compares the live portal with its OpenAPI document: `python -m tests.fuzz.contract --cases 20000 --seed N`.

Starts the embedded system, makes jobs of every kind, and lets schemathesis send requests with all its checks: examples,
coverage, fuzzing and sequences (stateful), as an operator and as a submitter in turn, until there were as many as asked
for. Prints what was sent and answered, and each kind of failure once with a command that repeats it. The exit status
is 1 if there was one.
"""

import argparse
import contextlib
import struct
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import schemathesis
from schemathesis.config import SchemathesisConfig
from schemathesis.engine import Status, events, from_schema
from schemathesis.errors import InvalidSchema

from tests.chaos.samples import store_copy
from tests.fuzz import requests_made
from tests.fuzz.right_bodies import rows
from tests.stack import Stack, running

# A value that no other sample has: its worker is killed.
POISON = 101.4375
MAGNESIUM = 4
# How many jobs are made to be given up.
DEAD = 6
FIRST, MORE = ("examples", "coverage", "fuzzing", "stateful"), ("fuzzing", "stateful")
PREFER = [
    "respond-async",
    "respond-async, wait=1",
    "wait=2",
    "wait=0",
    "respond-async-proxy",
    "respond-async-container",
]
# Messages that nobody could read.
PARKED = """
from inference_portal.jobs.models import ParkedMessage
for number in range(20):
    ParkedMessage.objects.create(digest=number, queue="inference.cpu", reason="rejected", error="?", body=b"?", size=1)
"""
# What schemathesis takes for accepted unless told otherwise, but for 5xx; and for refused.
FINE = ["2xx", "401", "403", "404", "409", "429"]
REFUSED = ["400", "401", "403", "404", "406", "409", "413", "415", "422", "429"]


@dataclass
class Figures:
    """What was sent, what was answered, what was wrong."""

    cases: int = 0
    by_operation: dict[str, Counter[int]] = field(default_factory=lambda: defaultdict(Counter))
    by_phase: Counter[str] = field(default_factory=Counter)
    checks: int = 0
    failures: dict[tuple[str, str, str], str] = field(default_factory=dict)

    def add(self, event: Any) -> None:
        """Count one event of schemathesis."""
        if isinstance(event, events.ScenarioFinished):
            for case_id, interaction in event.recorder.interactions.items():
                self.cases += 1
                self.by_phase[event.phase.value] += 1
                status = 0 if interaction.response is None else interaction.response.status_code
                self.by_operation[event.recorder.cases[case_id].value.operation.label][status] += 1
            for case_id, checks in event.recorder.checks.items():
                self.checks += len(checks)
                label = event.recorder.cases[case_id].value.operation.label
                for check in checks:
                    if check.status == Status.FAILURE and check.failure_info is not None:
                        failure = check.failure_info.failure
                        text = f"{failure.message}\n{check.failure_info.code_sample}"
                        self._fail(label, check.name, failure.title, text, event.recorder, case_id)
        elif isinstance(event, events.NonFatalError) and not isinstance(event.value, InvalidSchema):
            # (schemathesis 4.32 forgets a PUT's path parameter now and then, and sends nothing; the document has it.)
            self.failures.setdefault((event.label, "error", type(event.value).__name__), str(event.value))
        elif isinstance(event, events.FatalError):
            self.failures[("", "fatal", type(event.exception).__name__)] = repr(event.exception)

    def _fail(self, label: str, check: str, title: str, text: str, recorder: Any, case_id: str) -> None:
        response = recorder.find_response(case_id=case_id)
        status = "" if response is None else response.status_code
        answer = "" if response is None else response.content[:600].decode(errors="replace")
        self.failures.setdefault((label, check, f"{title} ({status})"), f"{text}\n{answer}")

    def report(self) -> str:
        """Return the figures and the failures as text."""
        statuses = sum(self.by_operation.values(), Counter[int]())
        phases = ", ".join(f"{phase} {count:,}" for phase, count in self.by_phase.items())
        lines = [f"{label}: {_counts(counts)}" for label, counts in sorted(self.by_operation.items())]
        failures = [f"\n== {' | '.join(key)}\n{text}" for key, text in self.failures.items()]
        return "\n".join(
            [
                *lines,
                f"{self.cases:,} cases ({phases}) of {len(self.by_operation)} operations, {self.checks:,} checks",
                f"answers by status: {_counts(statuses)}",
                f"{len(self.failures)} kinds of failures",
                *failures,
            ]
        )


def _counts(statuses: Counter[int]) -> str:
    """Return how often there was which status, as text; 0 is no answer."""
    return ", ".join(f"{status}: {count:,}" for status, count in sorted(statuses.items()))


@dataclass(frozen=True)
class Target:
    """The live system, with jobs in it."""

    url: str
    keys: tuple[str, ...]
    jobs: list[str]
    log: Path


@contextlib.contextmanager
def target(folder: Path) -> Iterator[Target]:
    """Start the embedded system and make jobs in every final state, and a dead letter."""
    store = store_copy(folder / "store", timeout_seconds=5.0, attempts=1)
    poison = struct.pack("<f", POISON).hex()
    variables = {"MODEL_STORE": str(store), "FAILPOINTS": f"worker.before_predict@{poison}=kill*1000"}
    with running(Stack(folder / "run", **variables)) as stack:
        stack.manage("access", "add-team", "other")
        keys = [
            stack.manage("access", "add-key", role, "--team", team, "--role", role).strip().splitlines()[-1]
            for team, role in (("demo", "operator"), ("demo", "submitter"), ("other", "submitter"))
        ]
        stack.manage("shell", "--command", PARKED)
        log = stack.folder / "logs" / "portal.log"
        yield Target(stack.url, tuple(keys[:2]), _make_jobs(stack, keys[2]), log)


def _make_jobs(stack: Stack, foreign_key: str) -> list[str]:
    """Return the ids of jobs of every kind, one of them another team's."""
    body = {"instances": rows("wine")}
    killing = [row.copy() for row in rows("wine", 1)]
    killing[0][MAGNESIUM] = POISON
    wait = {"Prefer": "respond-async"}
    answers = [
        stack.infer("wine", body, Prefer="respond-async, wait=20"),
        stack.infer("breast_cancer", {"instances": rows("breast_cancer")}, Prefer="respond-async"),
        stack.infer("wine", body, Prefer="respond-async-proxy"),
        stack.infer("wine", body, X_Inference_Ttl="0.000001", **wait),
        stack.infer("wine", body, Authorization=f"Bearer {foreign_key}", **wait),
    ]
    dead = [stack.infer("wine", {"instances": killing}, **wait) for _ in range(DEAD)]
    cancelled = stack.infer("wine", body, **wait)
    for _ in range(20):
        if stack.client.post(f"/api/jobs/{cancelled.headers['X-Inference-Id']}/cancel/").status_code == 202:
            break
        cancelled = stack.infer("wine", body, **wait)
    answers += [cancelled, *dead]
    assert all(answer.status_code in (200, 202) for answer in answers), [answer.text for answer in answers]
    ids = [answer.headers["X-Inference-Id"] for answer in answers]
    for job_id in ids[-DEAD:]:
        assert stack.client.get(f"/api/jobs/{job_id}/status/?wait=60").json()["State"] == "dead_lettered"
    return ids


def configuration(target: Target, *, key: str, seed: int, examples: int, phases: tuple[str, ...]) -> SchemathesisConfig:
    """Return how schemathesis shall go about it."""
    # By the schema a body is right, and yet the model may refuse it, a file may not be one, two headers may contradict
    # each other: no schema knows the model's columns or what is inside a file. `right_body_is_accepted` stands in.
    refused = {"positive_data_acceptance": {"expected-statuses": [*FINE, "422"]}}
    # A shape may name more rows than a request may have, which is a setting.
    sized = {"positive_data_acceptance": {"expected-statuses": [*FINE, "413", "422"]}}
    # Of many the wrong ones are told in the answer, and the others done.
    each_for_itself = {"negative_data_rejection": {"expected-statuses": ["200", *REFUSED]}}
    inferred = {
        "positive_data_acceptance": {"expected-statuses": [*FINE, "400", "410", "413", "422", "502", "504"]},
        # The job's end (502) and the end of the wait (504) are answers, too.
        "not_a_server_error": {"expected-statuses": ["2xx", "4xx", "502", "504"]},
    }
    ended = {
        "positive_data_acceptance": {"expected-statuses": [*FINE, "410", "422", "502"]},
        "not_a_server_error": {"expected-statuses": ["2xx", "4xx", "502"]},
    }
    # Which cursors are the portal's own, no schema says.
    listed = {"positive_data_acceptance": {"expected-statuses": [*FINE, "400"]}}
    checks = {
        "infer_create$": inferred,
        "result": ended,
        "^(jobs_create|jobs_put)$": sized,
        "^dead_letters_replay$": sized | {"negative_data_rejection": {"expected-statuses": ["413", *REFUSED]}},
        "^(jobs_rerun|dead_letters_(bulk_(replay|discard)|discard)|parked_messages_discard)$": refused,
        # Which places and addresses may be used are settings, and some options exclude one another.
        "^(batches_(create|change)|schedules_(create|replace|change)|webhooks_(create|change))$": refused,
        # To the form every file is one.
        "^uploads_create$": {"negative_data_rejection": {"expected-statuses": ["201", *REFUSED]}},
        "_bulk": each_for_itself,
        "(_list|_chunks|_runs)$": listed,
    }
    return SchemathesisConfig.from_dict(
        {
            "seed": seed,
            "base-url": target.url,
            "headers": {"Authorization": f"Bearer {key}"},
            "cache": {"enabled": False},
            "continue-on-failure": True,
            "request-timeout": 60,
            "suppress-health-check": ["all"],
            "generation": {
                "max-examples": examples,
                "database": "none",
                "no-shrink": True,
                # The key is ours; what happens without one, and with a wrong one, is tried by the check for that.
                "with-security-parameters": False,
            },
            "phases": {name: {"enabled": name in phases} for name in FIRST},
            "dictionaries": {
                "jobs": {"values": target.jobs},
                "models": {"values": ["wine", "breast_cancer"]},
                "versions": {"values": ["1"]},
                "prefer": {"values": PREFER},
            },
            "parameters": {
                "path.job_id": {"dictionary": "jobs", "probability": 0.8},
                "header.X-Inference-Id": {"dictionary": "jobs", "probability": 0.3},
                "body.ids[*]": {"dictionary": "jobs", "probability": 0.5},
                "path.model": {"dictionary": "models", "probability": 0.9},
                "body.model": {"dictionary": "models", "probability": 0.9},
                "body.jobs[*].model": {"dictionary": "models", "probability": 0.9},
                "query.model": {"dictionary": "models", "probability": 0.5},
                "path.version": {"dictionary": "versions", "probability": 0.8},
                "body.version": {"dictionary": "versions", "probability": 0.6},
                "header.Prefer": {"dictionary": "prefer", "probability": 0.8},
            },
            "operations": [{"include-operation-id-regex": name, "checks": each} for name, each in checks.items()],
        }
    )


def run(target: Target, *, cases: int, seed: int, examples: int, phases: tuple[str, ...] = FIRST) -> Figures:
    """Send at least so many requests (with 0 one round), as one and the other in turn. Returns the figures."""
    figures = Figures()
    number = 0
    while number == 0 or figures.cases < cases:
        key = target.keys[number % len(target.keys)]
        config = configuration(
            target, key=key, seed=seed + number, examples=examples, phases=phases if number < 2 else MORE
        )
        document = f"{target.url}/api/schema/"
        schema = schemathesis.openapi.from_url(document, config=config, headers={"Authorization": f"Bearer {key}"})
        for event in from_schema(schema).execute():
            figures.add(event)
        number += 1
        for line in target.log.read_text(errors="replace").splitlines():
            if "unforeseen" in line:
                figures.failures[("", "log", "an error that nobody foresaw")] = f"{line}\n{target.log.read_text()}"
        print(f"round {number}: {figures.cases:,} cases, {len(figures.failures)} kinds of failures", flush=True)
    return figures


def main() -> int:
    """Run as many cases as asked for. Returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=1000, help="at least so many requests")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--examples", type=int, default=100, help="of each operation in each round")
    parser.add_argument("--phases", default=",".join(FIRST), help="of the first rounds; the others fuzz")
    arguments = parser.parse_args()
    requests_made.register()
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="contract-") as folder, target(Path(folder)) as live:
        figures = run(
            live,
            cases=arguments.cases,
            seed=arguments.seed,
            examples=arguments.examples,
            phases=tuple(arguments.phases.split(",")),
        )
    print(figures.report())
    print(f"{time.monotonic() - started:.0f} s")
    return 1 if figures.failures else 0


if __name__ == "__main__":
    sys.exit(main())
