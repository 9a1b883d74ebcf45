"""compose.yaml: valid, the same commands as deploy/supervisord.conf, healthy, limited, without secrets."""

import configparser
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from compose_spec import PyCompose

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "compose.yaml").read_text()
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load(TEXT)["services"]
WORKERS = (
    "worker-cpu",
    "worker-cpu-isolated",
    "worker-gpu",
    "worker-gpu-isolated",
    "worker-explain",
    "worker-batch",
    "worker-container",
)
PROCESSES = ("portal", "dispatcher", "recorder", "courier", "beat", *WORKERS, "flower")
ALL = ("postgres", "rabbitmq", "setup", *PROCESSES)
OURS = ("setup", *PROCESSES)

supervisor = configparser.RawConfigParser()
supervisor.read(ROOT / "deploy" / "supervisord.conf")


def secrets_of(service: str) -> dict[str, str]:
    """The secrets that a service sees: name inside the container → name outside."""
    entries = SERVICES[service].get("secrets", [])
    return {(s if isinstance(s, str) else s["target"]): (s if isinstance(s, str) else s["source"]) for s in entries}


def test_it_follows_the_compose_specification() -> None:
    # The validator knows neither YAML's merge keys nor variables: it gets both resolved, as compose resolves them.
    text = re.sub(r"\$\{[A-Z_]+:-([^}]*)\}", r"\1", TEXT)
    resolved = {key: value for key, value in yaml.safe_load(text).items() if not key.startswith("x-")}
    compose = PyCompose.from_json(json.dumps(resolved))
    compose.validate()
    for check in (compose.validate_networks, compose.validate_volumes, compose.validate_secrets):
        check()
    compose.to_spec()


def test_it_names_every_service() -> None:
    assert sorted(SERVICES) == sorted(ALL)


def test_every_supervised_program_is_a_service_with_the_same_command() -> None:
    programs = {
        section.removeprefix("program:"): supervisor[section]["command"].replace("%%", "%")
        for section in supervisor.sections()
        if section.startswith("program:")
    }
    programs.pop("announce")  # prints the demo login, which exists on a developer's machine only
    assert programs == {name: SERVICES[name]["command"] for name in PROCESSES}


@pytest.mark.parametrize("name", PROCESSES)
def test_a_process_has_as_long_to_stop_as_under_the_supervisor(name: str) -> None:
    seconds = int(SERVICES[name]["stop_grace_period"].removesuffix("s"))
    assert seconds >= int(supervisor[f"program:{name}"].get("stopwaitsecs", "10"))


@pytest.mark.parametrize("name", sorted(set(ALL) - {"setup"}))
def test_a_service_has_a_health_check_and_starts_again(name: str) -> None:
    service = SERVICES[name]
    assert service["healthcheck"]["test"][0] == "CMD"
    assert service["restart"] == "unless-stopped"


def test_setup_runs_once_after_the_services_it_sets_up_and_before_all_others() -> None:
    assert SERVICES["setup"]["restart"] == "no"
    assert SERVICES["setup"]["depends_on"] == {
        name: {"condition": "service_healthy"} for name in ("postgres", "rabbitmq")
    }
    for name in PROCESSES:
        assert SERVICES[name]["depends_on"]["setup"] == {"condition": "service_completed_successfully"}


@pytest.mark.parametrize("name", ALL)
def test_a_service_has_limits(name: str) -> None:
    limits = SERVICES[name]["deploy"]["resources"]["limits"]
    assert float(limits["cpus"]) > 0
    assert re.fullmatch(r"\d+[MG]", limits["memory"])


def test_only_batches_have_less_than_a_whole_share_of_the_processors() -> None:
    assert {name: service["cpu_shares"] for name, service in SERVICES.items() if "cpu_shares" in service} == {
        "worker-batch": 102
    }


@pytest.mark.parametrize("name", ALL)
def test_a_service_is_hardened(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not service.get("privileged")
    if name not in OURS:  # our images name their user themselves
        assert service["user"] not in ("root", "0")


def test_our_images_run_as_a_user_without_rights() -> None:
    users = re.findall(r"^USER (.+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert users == ["10001:10001"]


@pytest.mark.parametrize("name", ALL)
def test_an_image_is_pinned(name: str) -> None:
    assert re.search(r":\d+\.\d+", SERVICES[name]["image"])


def test_the_images_of_the_dockerfile_are_pinned_and_packages_checked() -> None:
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    stages = {line.split(" AS ")[1] for line in lines if line.startswith("FROM ")}
    bases = {line.split()[1] for line in lines if line.startswith("FROM ")} - stages
    assert all(re.search(r":\d+\.\d+\.\d+", base) for base in bases)
    assert {service["build"]["target"] for service in SERVICES.values() if "build" in service} <= stages
    assert all("--require-hashes" in line for line in lines if " install " in line)


@pytest.mark.parametrize("name", ALL)
def test_no_secret_is_in_an_environment_or_a_command(name: str) -> None:
    service = SERVICES[name]
    for variable, value in service.get("environment", {}).items():
        if re.search(r"URL|KEY$|KEY_FILE|PASSWORD|AUTH|SECRET", variable):
            assert variable.endswith("_FILE"), variable
            assert value.removeprefix("/run/secrets/") in secrets_of(name)
    assert "://" not in str(service.get("command", ""))


def test_every_secret_is_a_file_that_make_secrets_writes() -> None:
    declared = yaml.safe_load(TEXT)["secrets"]
    assert {s["file"] for s in declared.values()} == {f"./deploy/secrets/{name}" for name in declared}
    assert {source for name in ALL for source in secrets_of(name).values()} == set(declared)
    assert "deploy/secrets/" in (ROOT / ".gitignore").read_text().split()


@pytest.mark.parametrize("name", sorted(set(PROCESSES) - {"portal"}))
def test_each_process_has_its_own_broker_account(name: str) -> None:
    assert secrets_of(name)["broker_url"] == f"broker_url_{name.replace('-', '_')}"


def test_the_portal_cannot_reach_the_broker_nor_the_workers_the_database() -> None:
    assert "broker_url" not in secrets_of("portal")
    assert "broker" not in SERVICES["portal"]["networks"]
    for name in (*WORKERS, "flower"):
        assert "database_url" not in secrets_of(name)
        assert "django_secret_key" not in secrets_of(name)
        assert "database" not in SERVICES[name]["networks"]


def test_only_setup_is_the_owner_of_the_database() -> None:
    owners = {name for name in ALL if "database_url_owner" in secrets_of(name).values()}
    assert owners == {"setup"}


@pytest.mark.parametrize("name", OURS)
def test_models_are_read_only_and_data_is_for_those_who_need_it(name: str) -> None:
    volumes = set(SERVICES[name].get("volumes", []))
    assert ("data:/data" in volumes) is (name in ("portal", "worker-batch"))
    assert all(volume.endswith(":ro") for volume in volumes - {"data:/data"})


def test_whoever_checks_a_place_knows_which_may_be_used() -> None:
    names = {"DATA_DIR", "DATA_FOLDERS", "DATA_BUCKETS"}
    knowing = {name for name in OURS if names <= SERVICES[name].get("environment", {}).keys()}
    # The recorder makes the batches of schedules.
    assert knowing == {"portal", "recorder", "worker-batch"}


def test_whoever_ends_jobs_tells_subscribers_with_or_without_a_broker_of_its_own() -> None:
    telling = {
        name for name in OURS if SERVICES[name].get("environment", {}).get("PUBLISH_EVENTS") == "${PUBLISH_EVENTS:-1}"
    }
    assert telling >= {"portal", "dispatcher", "recorder", "beat"}


def test_only_gpu_workers_ask_for_a_gpu_and_only_when_wanted() -> None:
    reserving = {name for name in ALL if "reservations" in SERVICES[name]["deploy"]["resources"]}
    assert reserving == {"worker-gpu", "worker-gpu-isolated"}
    for name in reserving:
        assert SERVICES[name]["profiles"] == ["gpu"]
        assert SERVICES[name]["build"]["target"] == "gpu"


def test_what_compose_mounts_and_runs_is_in_the_image_or_the_repository() -> None:
    kept = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    scripts = set(re.findall(r"deploy/\w+\.py", TEXT))
    assert scripts == {"deploy/healthy.py", "deploy/database_roles.py", "deploy/flowerconfig.py"}
    assert scripts <= kept
    assert all((ROOT / path).exists() for path in kept)
    for path in re.findall(r"\./deploy/[\w.]+(?=:)", TEXT):
        assert (ROOT / path).exists()
