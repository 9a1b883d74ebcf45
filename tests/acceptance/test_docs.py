"""The docs are true: commands run, answers are the system's, names exist, tables are the code's.

In README.md and docs/, a `bash` block is run, with those before it on its page, in a shell with -euo pipefail, in a
folder that looks like a fresh clone beside a running system; a `python` block is run as a program (one that begins with
`# name.py` is saved under that name, for all pages). A `json` or `text` block right after it is what it must have
printed, where "…" stands for anything. A `yaml` block is a part of a manifest, `yaml sinks` the file with the sinks. A
`bash make` block starts or installs things: ELSEWHERE says which test does the same.
"""

import ast
import json
import math
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from django.conf import settings
from django.urls import URLPattern

from inference_portal.batches import states as batch_states
from inference_portal.batches.fields import POLICIES
from inference_portal.batches.schedules import templates
from inference_portal.batches.schedules.models import Outcome
from inference_portal.deliveries.sinks import AnySink, result_file
from inference_portal.deliveries.sinks.file import read_sinks
from inference_portal.errors import PROBLEMS
from inference_portal.jobs.retry import TRANSIENT
from inference_portal.jobs.states import State, diagram
from inference_portal.urls import urlpatterns
from tests.stack import ROOT, Stack, running
from tests.unit.builders import manifest_dict
from workers import contract, manifest, topology
from workers.template import columns, container, layout, output, steps, upgrades

PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
NAMES = [str(path.relative_to(ROOT)) for path in PAGES]
# Needs a container engine; tests/integration/deployment.py runs what compose.yaml names without one.
CONTAINERS = "docs/operations.md"
# Needs RabbitMQ, so it is run against the full stack.
FULL_STACK = {"docs/messages.md"}
# Commands that are not run from here, and what shows that they work.
ELSEWHERE = {
    "make run": "tests/acceptance/test_main_path.py",
    "PORT=8001 make run": "tests/stack.py:Stack",
    "SINKS_FILE=sinks.yaml make run": "tests/acceptance/test_deliveries.py",
    "make run-stack": "tests/acceptance/test_main_path.py",
    "make test": "tests/services.py:missing",
    "make test-unit": "tests/unit/test_states.py",
    "make lint": "tests/unit/test_architecture.py",
    "make format": "tests/unit/test_architecture.py",
    "make bench": "bench/load.py:main",
    "make bench-batches": "bench/batches.py:main",
    "python -m bench.gpu": "tests/unit/test_gpu.py",
    "make chaos": "tests/chaos/test_chaos.py",
    "make fuzz": "tests/acceptance/test_contract.py",
    "make train": "tests/unit/test_train.py",
    "make lock": "Makefile",
    "make secrets": "tests/unit/test_make_secrets.py",
    "make clean": "Makefile",
    "make help": "Makefile",
}
PYTEST = re.compile(r"(?:TEST_DATABASE=postgresql )?(?:\.venv/bin/)?python -m pytest (\S+)(?: -k \w+)?")
# Made by `make secrets`, ignored by git.
SECRETS = "deploy/secrets"
# Routes for people with a browser: nobody calls them with curl or from a program.
FOR_BROWSERS = {"/api/docs/"}
# How the pages send requests in bash: `ask /path …`, the shorthand that they define, or `curl … "$PORTAL_URL/path" …`.
CURL = re.compile(
    r"""\b(?:ask\s+["']?|curl\s.*?\$PORTAL_URL)(?P<path>/[^\s"'?]+)(?P<rest>.*?)(?=\b(?:ask|curl)\s|\Z)""", re.DOTALL
)
UUID = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
MOMENT = r"\d{4}-\d\d-\d\dT[\d:.]+Z"


@dataclass(frozen=True, slots=True)
class Block:
    """One fenced block: its line, its info string, its text."""

    line: int
    info: str
    text: str

    @property
    def runs(self) -> bool:
        """Tell whether it is a command or a program to run here."""
        return self.info in ("bash", "python")

    @property
    def file(self) -> str | None:
        """The name under which other programs import it, if it has one."""
        named = re.match(r"# ([a-z_]+\.py)\n", self.text)
        return named[1] if named else None


def blocks(name: str) -> list[Block]:
    found, start, info = [], 0, ""
    lines = (ROOT / name).read_text().splitlines()
    for number, line in enumerate(lines, 1):
        if not line.startswith("```"):
            continue
        if not start:
            start, info = number, line[3:].strip()
        else:
            found.append(Block(start, info, "\n".join(lines[start : number - 1]) + "\n"))
            start = 0
    assert not start, f"{name}:{start}: the block is never closed"
    return found


def prose(name: str) -> str:
    return re.sub(r"(?ms)^```.*?^```$", "", (ROOT / name).read_text())


def clone(folder: Path, run_dir: Path) -> Path:
    """A folder as a reader has it: the repository, an own copy of the models, and `.run` of a running system."""
    folder.mkdir()
    for path in ROOT.iterdir():
        if path.name not in (".git", ".venv", ".run", "models_store"):
            (folder / path.name).symlink_to(path)
    shutil.copytree(ROOT / "models_store", folder / "models_store", ignore=shutil.ignore_patterns("__pycache__"))
    (folder / ".venv").symlink_to(sys.prefix)
    (folder / ".run").symlink_to(run_dir)
    for block in (block for name in NAMES for block in blocks(name) if block.file):
        (folder / str(block.file)).write_text(block.text)
    return folder


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, dict[str, str]]]:
    """A reader's folder and environment, beside the system as `make run` starts it there."""
    folder = tmp_path_factory.mktemp("docs")
    place = clone(folder / "clone", folder / "run")
    sinks = folder / "sinks.yaml"
    sinks.write_text(f"shelf: {{type: folder, root: {folder}/run/results}}\n")
    variables = {
        "MODEL_STORE": str(place / "models_store"),
        "WEBHOOK_ALLOWED_NETWORKS": "127.0.0.0/8",
        "SINKS_FILE": str(sinks),
    }
    with running(Stack(folder / "run", **variables)) as stack:
        yield place, stack.environment


@pytest.fixture
def operator(tmp_path: Path, full_stack: Stack) -> tuple[Path, dict[str, str]]:
    """The same beside the system as `make run-stack` starts it."""
    return clone(tmp_path / "clone", full_stack.folder), full_stack.environment


def run_page(name: str, place: Path, environment: dict[str, str]) -> dict[int, str]:
    """Run a page's blocks from top to bottom. Returns what each printed, by its line."""
    folder = place / f"output-{Path(name).stem}"
    folder.mkdir()
    script = []
    for block in blocks(name):
        if not block.runs:
            continue
        script.append(f"echo {block.line} > {folder}/at")
        command = block.text
        if block.info == "python":
            program = folder / f"{block.line}.py"
            program.write_text(block.text)
            command = f"python {program}\n"
        script.append(f"{{\n{command}}} > {folder}/{block.line}.out")
    (folder / "page.sh").write_text("\n".join(script) + "\n")
    done = subprocess.run(
        ["bash", "-euo", "pipefail", f"{folder}/page.sh"],
        cwd=place,
        env=environment | {"PATH": f"{sys.prefix}/bin{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(place)},
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        timeout=300,
        check=False,
    )
    at = (folder / "at").read_text().strip()
    printed = {int(path.stem): path.read_text() for path in folder.glob("*.out")}
    assert done.returncode == 0, f"{name}:{at}: {done.returncode}\n{printed.get(int(at), '')}\n{done.stderr}"
    return printed


def last_json(text: str) -> Any:
    """Return the last of the JSON objects that stand one after the other in `text`."""
    at, found = 0, None
    while (at := text.find("{", at)) >= 0:
        found, at = json.JSONDecoder().raw_decode(text, at)
    return found


def differences(expected: Any, got: Any, where: str = "") -> list[str]:
    """Return where an answer is not the one in the docs; ids and times are always others, "…" is anything."""
    if expected == "…":
        return []
    if isinstance(expected, dict) and isinstance(got, dict):
        keys = expected.keys() - {"…"}
        if keys != got.keys() and not (keys < got.keys() and "…" in expected):
            return [f"{where}: {sorted(keys ^ got.keys())}"]
        return [d for key in keys for d in differences(expected[key], got[key], f"{where}/{key}")]
    if isinstance(expected, list) and isinstance(got, list):
        rest = expected[-1:] == ["…"]
        expected = expected[:-1] if rest else expected
        if len(got) < len(expected) or (len(got) > len(expected) and not rest):
            return [f"{where}: {len(expected)} elements, got {len(got)}"]
        return [d for i, e in enumerate(expected) for d in differences(e, got[i], f"{where}/{i}")]
    if isinstance(expected, float) and isinstance(got, float):
        near = where.endswith("Seconds") or math.isclose(expected, got, rel_tol=1e-4)
        return [] if near else [f"{where}: {expected}, got {got}"]
    if isinstance(expected, str) and isinstance(got, str):
        same = matches(expected, got)
    else:
        same = type(expected) is type(got) and expected == got
    return [] if same else [f"{where}: {expected!r}, got {got!r}"]


def matches(expected: str, got: str) -> bool:
    """Tell whether a text is as in the docs, but for ids and times, which stand for others of their kind."""
    free = {"…": ".*", UUID: UUID, MOMENT: MOMENT}
    pattern = ""
    for part in re.split(f"(…|{UUID}|{MOMENT})", expected):
        kind = next((k for k in free if re.fullmatch(k, part)), None)
        pattern += re.escape(part) if kind is None else free[kind]
    return re.fullmatch(pattern, got) is not None


RUNNABLE = [name for name in NAMES if name != CONTAINERS and any(b.runs for b in blocks(name))]


@pytest.mark.parametrize("name", RUNNABLE)
def test_every_command_on_the_page_works_and_prints_what_the_page_says(
    name: str, request: pytest.FixtureRequest
) -> None:
    place, environment = request.getfixturevalue("operator" if name in FULL_STACK else "reader")
    printed = run_page(name, place, environment)
    wrong = []
    previous: Block | None = None
    for block in blocks(name):
        if previous is not None and previous.runs and block.info in ("json", "text"):
            output = printed[previous.line]
            if block.info == "json":
                found = differences(json.loads(block.text), last_json(output))
            else:
                lines = [line.strip() for line in output.splitlines()]
                found = [
                    f"{line!r} is not in\n{output}"
                    for line in block.text.splitlines()
                    if line.strip() and not any(matches(line.strip(), got) for got in lines)
                ]
            wrong += [f"{name}:{block.line}{difference}" for difference in found]
        previous = block
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("name", NAMES)
def test_every_block_is_of_a_kind_that_is_checked(name: str, tmp_path: Path) -> None:
    targets = set(re.findall(r"(?m)^([a-z-]+):.*##", (ROOT / "Makefile").read_text()))
    for block in blocks(name):
        if block.info == "bash make":
            for line in filter(None, (re.sub(r"\s*#.*", "", line) for line in block.text.splitlines())):
                target = re.search(r"\bmake ([a-z-]+)", line)
                assert target is None or target[1] in targets, f"{name}:{block.line}: make {line}"
                tests = PYTEST.fullmatch(line)
                assert line in ELSEWHERE or (tests and exists(tests[1])), f"{name}:{block.line}: {line}"
        elif block.info == "sh":
            assert name == CONTAINERS, f"{name}:{block.line}: use bash"
        elif block.info == "yaml sinks":
            path = tmp_path / "sinks.yaml"
            path.write_text(block.text)
            assert read_sinks(path), f"{name}:{block.line}"
        elif block.info.startswith("json "):
            kind = getattr(contract, block.info.removeprefix("json "))
            message = json.loads(block.text)
            sent = json.loads(json.dumps(kind.from_message(message).to_message()))
            assert sent == message, f"{name}:{block.line}"
        elif block.info == "yaml":
            part = manifest.Manifest.model_validate(manifest_dict(**(yaml.safe_load(block.text) or {})))
            layout.features(part.columns, part.preprocessing, part.base_margin, part.output.width)
        else:
            assert block.info in ("bash", "python", "json", "text", "mermaid"), f"{name}:{block.line}: {block.info}"


def test_what_is_said_to_be_shown_elsewhere_is_there() -> None:
    assert [place for place in ELSEWHERE.values() if not exists(place)] == []


def exists(token: str) -> bool:
    """Tell whether `path` (with * or <word> for a part) or `path.py:name` is in the repository."""
    path, _, name = token.partition(":")
    files = list(ROOT.glob(re.sub(r"<[^>]+>", "*", path.rstrip("/"))))
    if not name:
        return bool(files)
    return any(name in defined(file) for file in files if file.suffix == ".py")


def defined(file: Path) -> set[str]:
    """The functions, classes, methods and constants of a module."""
    names: set[str] = set()

    def visit(body: list[ast.stmt], prefix: str = "") -> None:
        for node in body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                names.add(prefix + node.name)
                if isinstance(node, ast.ClassDef):
                    visit(node.body, f"{node.name}.")
            for target in getattr(node, "targets", [getattr(node, "target", None)]):
                if isinstance(target, ast.Name):
                    names.add(prefix + target.id)

    visit(ast.parse(file.read_text()).body)
    return names


@pytest.mark.parametrize("name", NAMES)
def test_every_file_and_function_that_is_named_exists(name: str) -> None:
    top = {path.name for path in ROOT.iterdir() if path.name not in (".git", ".venv", ".run")}
    file_names = {path.name for folder in top for path in (ROOT / folder).rglob("*")}
    made = {block.file for page in NAMES for block in blocks(page)}
    missing = []
    for token in re.findall(r"`([^`\n]+)`", prose(name)):
        if re.fullmatch(r"[\w.<>*-]+(/[\w.<>*-]+)*/?(:[\w.]+)?", token) and "/" in token:
            if token.split("/")[0] in top and not token.startswith(SECRETS) and not exists(token):
                missing.append(token)
        elif re.fullmatch(r"[\w-]+\.(py|md|toml|yaml|yml|conf|txt)(:[\w.]+)?", token):
            if ":" in token or (ROOT / token).exists():
                missing += [] if exists(token) else [token]
            elif token not in file_names | made:
                missing.append(token)
    assert missing == []


def sections(name: str) -> dict[str, range]:
    """Return the lines of each section, its subsections among them, by the title as links have it."""
    lines = (ROOT / name).read_text().splitlines()
    code = {line for b in blocks(name) for line in range(b.line, b.line + b.text.count("\n") + 1)}
    titles = [(n, m) for n, line in enumerate(lines, 1) if n not in code and (m := re.match(r"(#+) (.+)", line))]
    found = {}
    for i, (start, title) in enumerate(titles):
        end = next((n for n, other in titles[i + 1 :] if len(other[1]) <= len(title[1])), len(lines) + 1)
        found[re.sub(r"[^\w -]", "", title[2].lower()).replace(" ", "-")] = range(start, end)
    return found


@pytest.mark.parametrize("name", NAMES)
def test_every_link_leads_somewhere(name: str) -> None:
    dead = []
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(name)):
        if re.match(r"https?:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (ROOT / name).parent / path if path else ROOT / name
        page = os.path.relpath(file, ROOT)
        if not file.exists() or (anchor and anchor not in sections(page)):
            dead.append(target)
    assert dead == []


def test_every_page_can_be_reached_from_the_readme() -> None:
    seen, todo = set(), ["README.md"]
    while todo:
        name = todo.pop()
        if name in seen or not (ROOT / name).is_file() or not name.endswith(".md"):
            continue
        seen.add(name)
        for target in re.findall(r"\]\(([^)\s#]+)", prose(name)):
            if not re.match(r"https?:", target):
                todo.append(os.path.relpath((ROOT / name).parent / target, ROOT))
    assert set(NAMES) - seen == set()


def rows(name: str, *header: str) -> list[list[str]]:
    """Return the cells of every table on the page whose first columns have these titles."""
    found, inside = [], False
    for line in prose(name).splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")] if line.startswith("|") else []
        if inside and cells:
            if not set("".join(cells)) <= {"-", ":"}:
                found.append(cells)
        else:
            inside = [c.lower() for c in cells[: len(header)]] == list(header) and bool(cells)
    return found


def plain(cell: str) -> str:
    return cell.replace("`", "").replace(",", "")


@pytest.mark.parametrize("name", NAMES)
def test_every_default_in_a_table_is_the_one_in_the_code(name: str) -> None:
    for setting, default, *_ in rows(name, "setting", "default"):
        assert float(plain(default)) == float(getattr(settings, plain(setting))), setting


@pytest.mark.parametrize("name", NAMES)
def test_every_number_in_a_table_is_the_one_in_the_code(name: str) -> None:
    for place, value, *_ in rows(name, "constant", "value"):
        path, _, constant = plain(place).partition(":")
        for node in ast.parse((ROOT / path).read_text()).body:
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == constant:
                assert ast.literal_eval(node.value) == float(plain(value)), place
                break
        else:
            pytest.fail(f"{place} is not there")


def test_the_state_diagram_is_the_table_of_the_code() -> None:
    (drawn,) = [b.text for b in blocks("docs/flow.md") if b.text.startswith("stateDiagram")]
    assert drawn == diagram() + "\n"


def test_every_state_is_explained() -> None:
    assert [plain(row[0]) for row in rows("docs/api.md", "state", "meaning")] == [s.value for s in State]


def test_what_is_said_about_batches_and_schedules_is_the_code() -> None:
    (drawn,) = [b.text for b in blocks("docs/batches.md") if b.text.startswith("stateDiagram")]
    assert drawn == batch_states.diagram() + "\n"
    states = [plain(row[0]) for row in rows("docs/batches.md", "state", "meaning")]
    assert states == [state.value for state in batch_states.State]
    listed = [plain(row[0]).removesuffix(" (the usual)") for row in rows("docs/batches.md", "retry_policy")]
    assert listed == list(POLICIES)
    cells = " ".join(row[0] for row in rows("docs/schedules.md", "name", "meaning"))
    assert re.findall(r"{{ (\w+) }}", cells) == list(templates.NAMES)
    outcomes = [plain(row[0]) for row in rows("docs/schedules.md", "outcome", "meaning")]
    assert sorted(outcomes) == sorted(outcome.value for outcome in Outcome)


def test_every_direct_dependency_is_explained() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    asked = [
        *project["project"]["dependencies"],
        *(d for extra in project["project"]["optional-dependencies"].values() for d in extra),
        *project["dependency-groups"]["dev"],
    ]
    explained = [plain(row[0]) for row in rows("docs/dependencies.md", "package", "what for")]
    assert sorted(explained) == sorted(re.match(r"[\w-]+", text)[0] for text in asked)  # type: ignore[index]


def test_every_problem_is_listed_with_its_status() -> None:
    listed = [(plain(r[0]), int(r[1]), r[2] == "yes") for r in rows("docs/api.md", "problem", "status", "retry")]
    assert listed == [(slug, kind.status, kind.retryable) for slug, kind in PROBLEMS.items()]


def operations() -> set[tuple[str, str]]:
    """Method and path of everything that the portal answers, but for the admin and the redirect to it."""
    found = set()
    for route in urlpatterns:
        if not isinstance(route, URLPattern) or str(route.pattern) == "":
            continue
        path = "/" + re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", str(route.pattern)).replace("{job_id}", "{id}")
        path = "/problems/{slug}" if path.startswith("/^problems") else path
        view = getattr(route.callback, "view_class", None)
        methods = [m for m in ("get", "post", "put", "patch", "delete") if hasattr(view, m)] or ["get"]
        found |= {(method.upper(), path) for method in methods}
    return found


def routes() -> list[tuple[str, str, str, str]]:
    """Method, path, page and section of each route in the API's table; without a link it is that of the line above."""
    found, page, anchor = [], "", ""
    for what, route, *_ in rows("docs/api.md", "what", "route"):
        if link := re.search(r"\]\(([^)#]*)#([^)]+)\)", what):
            page, anchor = f"docs/{link[1] or 'api.md'}", link[2]
        method, path = plain(route).split()
        found.append((method, path, page, anchor))
    return found


def requests(block: Block) -> Iterator[tuple[str, str]]:
    """Yield method and path of each request that a block sends to a path which is written there."""
    if block.info == "bash":
        for sent in CURL.finditer(block.text):
            method = re.search(r"\s-X (\w+)", sent[0])
            yield (
                method[1] if method else "POST" if re.search(r"\s(?:-d|-F|--data\S*)\s", sent["rest"]) else "GET",
                sent["path"],
            )
        return
    for node in ast.walk(ast.parse(block.text)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("ask", "call"):
            path = node.args[0]
            parts = path.values if isinstance(path, ast.JoinedStr) else [path]
            text = "".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in parts)
            named = {word.arg: word.value for word in node.keywords}
            body = len(node.args) > 1 or "body" in named
            method = named.get("method", ast.Constant("POST" if body else "GET"))
            yield ast.literal_eval(method), text.partition("?")[0]


def shown(page: str, anchor: str, language: str) -> set[tuple[str, str]]:
    """The operations that the blocks in a section show; of those that fit a path the most exact one."""
    lines = sections(page)[anchor]
    found = set()
    for block in blocks(page):
        if block.line in lines and block.info == language:
            for method, path in requests(block):
                fits = [o for o in operations() if re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", o[1]), path)]
                exact = min((template.count("{") for _, template in fits), default=0)
                found |= {o for o in fits if o[1].count("{") == exact and o[0] == method}
    return found


def test_every_route_is_listed() -> None:
    listed = [(method, path) for method, path, *_ in routes()]
    assert len(listed) == len(set(listed))
    assert set(listed) == operations()


@pytest.mark.parametrize("language", ["bash", "python"])
def test_every_route_is_shown_where_the_table_of_routes_leads(language: str) -> None:
    missing = [
        f"{method} {path}: {page}#{anchor}"
        for method, path, page, anchor in routes()
        if path not in FOR_BROWSERS and (method, path) not in shown(page, anchor, language)
    ]
    assert missing == []


def test_every_key_of_a_manifest_is_listed_with_its_default() -> None:
    parts = {"": manifest.Manifest, "artifact": manifest.Artifact, "columns[]": columns.Column, "output": output.Output}
    parts |= {"explanations": manifest.Explanations, "golden": manifest.Golden, "policy": manifest.Policy}
    parts |= {"micro_batch": manifest.MicroBatch, "warm_up": manifest.WarmUp, "training": manifest.Training}
    expected = {}
    for prefix, part in parts.items():
        for key, field in part.model_fields.items():
            whole = f"{prefix}.{key}".lstrip(".")
            expected[whole] = "required" if field.is_required() else field.default
    listed = {plain(r[0]): plain(r[2]) for r in rows("docs/models.md", "key", "type", "default")}
    assert list(listed) == list(expected)
    for key, default in expected.items():
        if isinstance(default, str | int | float | bool):
            assert listed[key] == (str(default).lower() if isinstance(default, bool) else str(default) or '""'), key
    assert get_args(manifest.Manifest.model_fields["template"].annotation) == (upgrades.TEMPLATE,)


def test_every_key_of_a_container_is_listed_with_its_default() -> None:
    listed = {plain(r[0]): plain(r[2]) for r in rows("docs/containers.md", "key", "type", "default")}
    fields = container.Container.model_fields
    assert list(listed) == [f"container.{key}" for key in fields]
    for key, field in fields.items():
        if isinstance(field.default, str | int | float):
            assert listed[f"container.{key}"] == str(field.default), key


@pytest.mark.parametrize(
    ("title", "kinds", "key"),
    [("step", get_args(get_args(steps.Step)[0]), "step"), ("calibration", (output.Platt, output.Isotonic), "method")],
)
def test_every_step_and_calibration_is_listed_with_its_keys(title: str, kinds: Any, key: str) -> None:
    listed = {plain(r[0]): re.findall("`([^`]+)`", r[1]) for r in rows("docs/models.md", title, "keys")}
    assert listed == {
        get_args(kind.model_fields[key].annotation)[0]: [name for name in kind.model_fields if name != key]
        for kind in kinds
    }


def test_every_key_of_a_sink_is_listed_with_its_default() -> None:
    listed = {plain(row[1]): plain(row[2]) for row in rows("docs/deliveries.md", "type", "key", "default")}
    expected = {}
    for kind in get_args(get_args(AnySink)[0]):
        for key, field in kind.model_fields.items():
            default = field.default[0] if isinstance(field.default, tuple) else field.default
            expected[key] = "required" if field.is_required() else default
    expected.pop("type")
    assert sorted(listed) == sorted(expected)
    assert {key for key, default in expected.items() if default is not None and default != listed[key]} == set()
    assert all(f"{{{{ {name} }}}}" in prose("docs/deliveries.md") for name in result_file.NAMES)


def test_every_queue_is_listed_with_its_binding() -> None:
    listed = [tuple(map(plain, r[:3])) for r in rows("docs/messages.md", "queue", "exchange", "binding")]
    assert listed == [(q.name, q.exchange, q.routing_key) for q in topology.TABLE]


def test_every_error_code_is_listed_with_what_is_done_about_it() -> None:
    listed = {plain(r[0]): r[1] == "yes" for r in rows("docs/flow.md", "code", "tried again")}
    assert listed == {code.value: code in TRANSIENT for code in contract.ErrorCode}


def test_every_label_that_web_users_are_told_of_is_on_a_page() -> None:
    sources = [p for p in (ROOT / "inference_portal" / "console").rglob("*") if p.suffix in (".py", ".html")]
    pages = "\n".join(path.read_text() for path in sources)
    assert [label for label in re.findall(r'"([^"]+)"', prose("docs/web.md")) if label not in pages] == []
