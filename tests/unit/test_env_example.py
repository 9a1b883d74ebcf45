"""`.env.example` lists every variable that the code and compose.yaml read, with its true default."""

import ast
import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
# Not for people to set: the process's own surroundings.
INTERNAL = {"PATH", "PYTHONPATH", "DJANGO_SETTINGS_MODULE", "SERVE_OPTIONS", "CELERY_SKIP_CHECKS"}
UNKNOWN = object()
SERVICES = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]


def _constant(node: ast.expr | None) -> object:
    """The value of a literal or of a product of literals; UNKNOWN for anything else."""
    if node is None:
        return ""
    try:
        return eval(compile(ast.Expression(node), "default", "eval"), {"__builtins__": {}})
    except Exception:
        return UNKNOWN


def _reads(tree: ast.AST) -> dict[str, object]:
    found: dict[str, object] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Subscript) and ast.unparse(node.value) == "os.environ":
            found.setdefault(str(_constant(node.slice)), UNKNOWN)
        if not isinstance(node, ast.Call) or not node.args or not isinstance(node.args[0], ast.Constant):
            continue
        function = ast.unparse(node.func)
        if re.fullmatch(r"secret|os\.getenv|os\.environ\.(get|setdefault)|env\.(str|int|float|bool|list)", function):
            defaults = [*node.args[1:2], *(k.value for k in node.keywords if k.arg == "default"), None]
            found[str(node.args[0].value)] = _constant(defaults[0])
    return found


@pytest.fixture(scope="module")
def read() -> dict[str, object]:
    """What the code reads, with the defaults that are written as literals."""
    found: dict[str, object] = {}
    for package in ("inference_portal", "workers"):
        for path in sorted((ROOT / package).rglob("*.py")):
            for name, default in _reads(ast.parse(path.read_text())).items():
                # wsgi.py's default for the portal is the one that people should know.
                if found.get(name, UNKNOWN) is UNKNOWN or path.name == "wsgi.py":
                    found[name] = default
    return {name: default for name, default in found.items() if name not in INTERNAL}


@pytest.fixture(scope="module")
def listed() -> dict[str, str]:
    """The names and values of .env.example, all of them commented out."""
    lines = (ROOT / ".env.example").read_text().splitlines()
    return dict(line[1:].split("=", 1) for line in lines if re.match(r"#[A-Z][A-Z0-9_]*=", line))


def _text(default: object) -> str:
    if isinstance(default, list):
        return ",".join(default)
    if isinstance(default, bool | int | float):
        return f"{float(default):g}" if float(default) < 1e6 else str(int(default))
    return str(default)


def test_every_variable_that_the_code_reads_is_listed(read: dict[str, object], listed: dict[str, str]) -> None:
    assert {"DATABASE_URL", "BROKER_URL", "SYNC_WAIT_SECONDS", "PORT", "DATABASE_POOL_SIZE"} <= set(read)
    assert sorted(set(read) - set(listed)) == []


def test_every_listed_default_is_the_one_in_the_code(read: dict[str, object], listed: dict[str, str]) -> None:
    wrong = {
        name: (listed[name], default)
        for name, default in read.items()
        if default is not UNKNOWN and listed[name] != _text(default)
    }
    assert wrong == {}


def test_what_compose_takes_from_the_environment_is_listed(listed: dict[str, str]) -> None:
    text = (ROOT / "compose.yaml").read_text()
    taken = set(re.findall(r"\$\{([A-Z0-9_]+)", text))
    for service in SERVICES.values():
        taken |= {name for name, value in service.get("environment", {}).items() if value is None}
    assert {"PORT", "ALLOWED_HOSTS", "SYNC_WAIT_SECONDS"} <= taken
    assert sorted(taken - set(listed)) == []


def test_compose_passes_on_what_the_portals_settings_read() -> None:
    known = _reads(ast.parse((ROOT / "inference_portal" / "settings.py").read_text()))
    named = SERVICES["dispatcher"]["environment"]
    given = {*named, *(name.removesuffix("_FILE") for name in named)}
    assert sorted(set(known) - given) == ["DATABASE_POOL_SIZE"]  # for the portal, which has many threads
    assert "DATABASE_POOL_SIZE" in SERVICES["portal"]["environment"]


def test_nothing_is_listed_that_nobody_reads(read: dict[str, object], listed: dict[str, str]) -> None:
    compose = (ROOT / "compose.yaml").read_text()
    assert [name for name in listed if name not in read and name not in compose] == []


def test_each_variable_has_a_comment(listed: dict[str, str]) -> None:
    blocks = (ROOT / ".env.example").read_text().split("\n\n")
    for block in blocks:
        lines = block.strip().splitlines()
        if any(re.match(r"#[A-Z][A-Z0-9_]*=", line) for line in lines):
            assert lines[0].startswith("# "), block
