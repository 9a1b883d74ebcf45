"""What operators see of the running system: queues, workers and metrics, while work stops and goes on."""

import subprocess
import sys
from collections import Counter

import httpx
from prometheus_client.parser import text_string_to_metric_families

from tests.acceptance.test_main_path import data
from tests.chaos.brake import stopped
from tests.stack import ROOT, Stack, wait_for

ROWS, _ = data("wine", 2)


def lane(stack: Stack) -> dict[str, float]:
    """What the list of queues says of the pool's own lane."""
    (found,) = [q for q in stack.client.get("/api/queues/").raise_for_status().json()["results"] if q["lane"] == "cpu"]
    return {name: value for name, value in found.items() if isinstance(value, int | float)}


def metrics(answer: httpx.Response) -> Counter[str]:
    """The samples that are about that lane or about the model, by name; 0 for what hasn't happened yet."""
    wanted = ({"pool": "cpu", "lane": "cpu"}, {"model": "wine", "version": "1"})
    assert answer.status_code == 200, answer.text
    families = text_string_to_metric_families(answer.text)
    samples = (sample for family in families for sample in family.samples)
    return Counter({s.name: s.value for s in samples if not s.labels or s.labels in wanted})


def test_operators_see_work_that_waits_and_then_what_has_become_of_it(stack: Stack) -> None:
    wait_for(lambda: lane(stack)["consumers"] == 2, 30, stack.logs)
    wait_for(lambda: lane(stack)["messages"] == lane(stack)["rows"] == 0, 60, stack.logs)
    before = metrics(httpx.get(stack.metrics_url))
    with stopped(stack):
        accepted = stack.infer("wine", {"instances": ROWS.tolist()}, Prefer="respond-async")
        wait_for(lambda: lane(stack)["messages"] == 1 and lane(stack)["oldest_wait_seconds"] > 0.5, 30, stack.logs)
        now = metrics(stack.client.get("/metrics"))
        assert now["inference_messages_under_way"] == 1
        assert now["inference_oldest_wait_seconds"] > 0.5
        assert (now["inference_dead_letters"], now["inference_database_up"]) == (lane(stack)["dead_letters"], 1)
    assert stack.result(accepted).status_code == 200
    after = metrics(httpx.get(stack.metrics_url))
    assert after["inference_messages_under_way"] == after["inference_oldest_wait_seconds"] == 0
    assert after["inference_rows_predicted_total"] - before["inference_rows_predicted_total"] == 2
    assert after["inference_job_run_seconds_count"] - before["inference_job_run_seconds_count"] == 1
    assert lane(stack)["rate"] > 0


def test_operators_see_who_is_at_work(stack: Stack) -> None:
    wait_for(lambda: len(stack.client.get("/api/workers/").json()["results"]) >= 2, 30, stack.logs)
    workers = {tuple(w["pools"]): w for w in stack.client.get("/api/workers/").json()["results"]}
    assert workers.keys() >= {("cpu",), ("cpu.isolated",)}
    assert (workers["cpu",]["alive"], workers["cpu",]["processes"]) == (True, 2)
    assert "wine:1" in workers["cpu",]["models"]


def test_others_see_none_of_it(stack: Stack) -> None:
    key = stack.manage("access", "add-key", "curious", "--team", "demo", "--role", "submitter").strip().splitlines()[-1]
    for path in ("/api/queues/", "/api/workers/", "/metrics"):
        assert httpx.get(f"{stack.url}{path}").status_code == 401
        answer = httpx.get(f"{stack.url}{path}", headers={"Authorization": f"Bearer {key}"})
        assert (answer.status_code, answer.json()["type"]) == (403, "/problems/forbidden")


def test_a_second_portal_that_finds_the_metrics_address_taken_starts_all_the_same(stack: Stack) -> None:
    program = "import time; from inference_portal import wsgi; time.sleep(2); print('it runs')"
    second = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env=stack.environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert "it runs" in second.stdout
    assert "trying again" in second.stderr, second.stderr
    assert httpx.get(stack.metrics_url).status_code == 200
