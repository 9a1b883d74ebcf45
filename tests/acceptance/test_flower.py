"""Flower on the full stack: operators see workers and tasks, others see nothing."""

import httpx

from models_store.samples import WINE
from tests.stack import Stack, wait_for


def test_flower_shows_workers_and_tasks_to_those_who_log_in(full_stack: Stack) -> None:
    assert full_stack.infer("wine", {"instances": [WINE]}).status_code == 200
    with httpx.Client(base_url=full_stack.flower_url, auth=(full_stack.user, full_stack.password)) as flower:
        wait_for(lambda: "inference.infer" in names(flower), 20, full_stack.logs)
        page = flower.get("/workers")
        assert page.status_code == 200
        assert "cpu@" in page.text
        assert "recorder@" in page.text
        # Payloads are not for Flower: it shows what a task is about.
        tasks = flower.get("/api/tasks").json().values()
        shown = {task["args"] for task in tasks if task["name"] == "inference.infer"}
        assert "wine:1 1 jobs, 1 rows" in shown
        assert not any("data" in args for args in shown)
    assert httpx.get(f"{full_stack.flower_url}/workers").status_code == 401


def names(flower: httpx.Client) -> set[str]:
    return {task["name"] for task in flower.get("/api/tasks").json().values()}
