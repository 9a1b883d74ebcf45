"""Every page for people with every role, generated from the urlconf: who sees it, who changes a job by its forms."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.admin.utils import quote
from django.test import Client
from django.urls import URLResolver, get_resolver

from inference_portal.accounts.models import ApiKey, Role, Team, User
from inference_portal.jobs.models import AuditEntry, Job
from inference_portal.jobs.states import State
from tests.integration import rows
from tests.integration.dead import park
from tests.integration.deliveries import make_delivery, make_endpoint
from tests.integration.http import session
from tests.integration.made_batches import make_batch
from tests.integration.schedules import make_schedule

pytestmark = pytest.mark.django_db

V, S, O = Role.VIEWER, Role.SUBMITTER, Role.OPERATOR  # noqa: E741
# The least role that may open a page, and the status of its answer. None: nobody may.
Page = tuple[Role | None, int]
NOBODY: Page = (None, 0)


def of_model(name: str, *, see: Role, add: Page = NOBODY, delete: Page = NOBODY, **others: Page) -> dict[str, Page]:
    """Return the pages that the admin makes for one model; who sees one of its objects sees what was done to it."""
    pages = {"": (see, 200), "add/": add, "<path:object_id>/delete/": delete}
    one = {"change": others.get("change", (see, 200)), "history": others.get("history", (see, 200))}
    pages |= {f"<path:object_id>/{page}/": who for page, who in one.items()}
    # Leads to the one with "change", which decides.
    pages["<path:object_id>/"] = (V, 302)
    return {f"{name}/{path}": who for path, who in pages.items()}


TABLE: dict[str, Page] = {
    "": (V, 200),
    "search/": (V, 200),
    "models/": (V, 200),
    "models/<str:model>/": (V, 200),
    # A form's; whom it lets in: tests/integration/test_console_releases.py.
    "models/<str:model>/<str:version>/check/": (V, 405),
    # With nothing that it could be compared with: to the model.
    "models/<str:model>/<str:version>/compare/": (O, 302),
    "models/<str:model>/<str:version>/release/": (O, 200),
    "models/<str:model>/<str:version>/retire/": (O, 200),
    # Nothing was released that could be taken back: to the model.
    "models/<str:model>/rollback/": (O, 302),
    "predict/": (S, 200),
    "new-batch/": (S, 200),
    "predict/<str:model>/<str:version>/": (S, 200),
    "^(?P<app_label>jobs|batches|deliveries|console|accounts)/$": (V, 200),
    **of_model("jobs/job", see=V),
    # What changes something is a form's, by POST.
    "jobs/job/<uuid:job_id>/cancel/": (S, 405),
    "jobs/job/<uuid:job_id>/rerun/": (S, 405),
    **of_model("batches/batch", see=V),
    "batches/batch/<uuid:batch_id>/cancel/": (S, 405),
    "batches/batch/<uuid:batch_id>/rerun/": (S, 405),
    "batches/batch/<uuid:batch_id>/change-run/": (S, 405),
    **of_model("batches/schedule", see=V, add=(S, 200)),
    "batches/schedule/<uuid:schedule_id>/edit/": (S, 200),
    "batches/schedule/<uuid:schedule_id>/turn/": (S, 405),
    "batches/schedule/<uuid:schedule_id>/run-now/": (S, 405),
    "batches/schedule/<uuid:schedule_id>/remove/": (S, 405),
    **of_model("deliveries/delivery", see=V),
    "deliveries/delivery/<uuid:delivery_id>/redeliver/": (S, 405),
    **of_model("deliveries/endpoint", see=V, add=(S, 200)),
    "deliveries/endpoint/<uuid:webhook_id>/edit/": (S, 200),
    "deliveries/endpoint/<uuid:webhook_id>/remove/": (S, 405),
    "deliveries/endpoint/<uuid:webhook_id>/test/": (S, 405),
    "deliveries/endpoint/<uuid:webhook_id>/rotate/": (S, 405),
    "deliveries/endpoint/<uuid:webhook_id>/turn/": (S, 405),
    **of_model("jobs/worker", see=V),
    **of_model("console/deadletter", see=O),
    "console/deadletter/<uuid:job_id>/replay/": (O, 405),
    "console/deadletter/<str:key>/discard/": (O, 405),
    # Without any chosen ones back to the list.
    "console/deadletter/discard/": (O, 302),
    **of_model("jobs/parkedmessage", see=O),
    "jobs/parkedmessage/<str:key>/discard/": (O, 405),
    "jobs/parkedmessage/discard/": (O, 302),
    **of_model("jobs/auditentry", see=O, change=NOBODY, history=NOBODY),
    **of_model("accounts/team", see=O, add=(O, 200)),
    **of_model("accounts/user", see=O, add=(O, 200), delete=(O, 200)),
    "accounts/user/<id>/password/": (O, 200),
    **of_model("accounts/apikey", see=O, add=(O, 200)),
    # Django's own.
    "login/": (V, 302),
    "logout/": (V, 405),
    "password_change/": (V, 200),
    "password_change/done/": (V, 200),
    "jsi18n/": (V, 200),
    "autocomplete/": NOBODY,
    "r/<path:content_type_id>/<path:object_id>/": (V, 404),
    "(?P<url>.*)$": (V, 404),
}
# Open to strangers, too.
OPEN = {"login/": 200, "logout/": 302}


def pages(patterns: list[Any], before: str = "") -> Iterator[str]:
    for pattern in patterns:
        path = before + str(pattern.pattern)
        if isinstance(pattern, URLResolver):
            yield from pages(pattern.url_patterns, path)
        else:
            yield path


PAGES = [path.removeprefix("admin/") for path in pages(get_resolver().url_patterns) if path.startswith("admin/")]


def test_the_table_names_no_page_that_is_gone() -> None:
    assert TABLE.keys() == set(PAGES)


def filled(page: str, team: Team) -> tuple[str, Job]:
    """Return the page's path for objects of a team, and the job among them."""
    make = rows.make_final if "deadletter" in page else rows.make_running
    job = make(team, State.DEAD_LETTERED) if make is rows.make_final else make(team)
    objects = {
        "jobs/parkedmessage": lambda: park().pk,
        "jobs/auditentry": lambda: AuditEntry.objects.create(who="x", action="rerun", job_id=job.id).pk,
        "batches/batch": lambda: make_batch(team).pk,
        "batches/schedule": lambda: make_schedule(team, name=str(job.id)).pk,
        "deliveries/delivery": lambda: make_delivery(team).pk,
        "deliveries/endpoint": lambda: make_endpoint(team).pk,
        "jobs/worker": lambda: rows.make_worker().pk,
        "accounts/team": lambda: team.pk,
        "accounts/user": lambda: User.objects.create(username=f"of-{team}-{User.objects.count()}", team=team).pk,
        "accounts/apikey": lambda: ApiKey.objects.create_key(name="k", team=team)[0].prefix,
    }
    named = quote(str(next((make() for name, make in objects.items() if page.startswith(name)), job.id)))
    path = page.replace("^(?P<app_label>jobs|batches|deliveries|console|accounts)/$", "jobs/").replace(
        "(?P<url>.*)$", "nothing/at/all"
    )
    values = {"model": "wine", "version": "1", "job_id": str(job.id), "content_type_id": "1", "batch_id": named}
    return "/admin/" + re.sub(r"<(?:\w+:)?(\w+)>", lambda part: values.get(part[1], named), path), job


@pytest.mark.parametrize("who", ["anonymous", *Role])
@pytest.mark.parametrize("page", PAGES)
def test_every_page_opens_for_whom_the_table_says_and_for_nobody_else(team: Team, page: str, who: str) -> None:
    assert page in TABLE, "nobody has said who may open this page"
    least, status = TABLE[page]
    for owner in (team, rows.make_team("other")):
        path, job = filled(page, owner)
        before = rows.stored(job)
        # To others' jobs only operators come; back to the list, where it says so.
        of_team = page.startswith(("jobs/job/<path", "batches/batch/<path", "batches/schedule/<path", "deliveries/"))
        of_team = of_team and "<path" in page
        of_team = of_team or page.endswith("/edit/")
        foreign = owner != team and of_team and who != Role.OPERATOR
        visitor = Client() if who == "anonymous" else session(team, role=Role(who))
        answer = visitor.get(path)
        where = f"{page} as {who}, {owner}"
        if who == "anonymous":
            assert answer.status_code == OPEN.get(page, 302), where
            assert page in OPEN or answer["Location"].startswith("/admin/login/"), where
        elif least is None or not Role(who).allows(least):
            assert answer.status_code == 403, where
            assert visitor.post(path).status_code in (403, 405), where
        else:
            assert answer.status_code == (302 if foreign else status), where
        assert rows.stored(job) == before, f"{where} has changed the job"


@pytest.mark.parametrize("action", ["cancel", "rerun"])
@pytest.mark.parametrize("who", ["anonymous", *Role])
def test_a_form_changes_no_job_that_its_sender_may_not_change(team: Team, who: str, action: str) -> None:
    for owner in (team, rows.make_team("other")):
        job = rows.make_running(owner) if action == "cancel" else rows.make_final(owner, State.FAILED)
        before = rows.whole(job.id)
        visitor = Client() if who == "anonymous" else session(team, role=Role(who))
        visitor.post(f"/admin/jobs/job/{job.id}/{action}/")
        may = who != "anonymous" and Role(who).allows(Role.SUBMITTER) and (owner == team or who == Role.OPERATOR)
        assert (rows.whole(job.id) != before) is may, (who, owner)
