"""`deploy/make_secrets.py`: what it writes, what it keeps, and that the accounts fit the topology."""

import json
import re
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from deploy import make_secrets
from workers import topology

ACCOUNTS = {account.name: account for account in make_secrets.ACCOUNTS}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    make_secrets.make(tmp_path / "secrets")
    return tmp_path / "secrets"


def contents(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir()}


def definitions(folder: Path) -> dict[str, list[dict[str, str]]]:
    read: dict[str, list[dict[str, str]]] = json.loads((folder / "rabbitmq_definitions.json").read_text())
    return read


def test_the_folder_is_private_and_its_files_can_be_read_by_any_container(folder: Path) -> None:
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o444}


def test_a_second_run_changes_nothing(folder: Path) -> None:
    before = contents(folder)
    make_secrets.make(folder)
    assert contents(folder) == before


def test_force_changes_everything(folder: Path) -> None:
    before = contents(folder)
    make_secrets.make(folder, force=True)
    after = contents(folder)
    assert set(after) == set(before)
    assert [name for name in after if after[name] == before[name]] == []


def test_a_lost_file_is_made_anew_and_the_others_stay(folder: Path) -> None:
    before = contents(folder)
    hashes = {user["name"]: user["password_hash"] for user in definitions(folder)["users"]}
    (folder / "broker_url_beat").unlink()
    make_secrets.make(folder)
    after = contents(folder)
    assert {name for name in after if after[name] != before[name]} == {"broker_url_beat", "rabbitmq_definitions.json"}
    renewed = {user["name"]: user["password_hash"] for user in definitions(folder)["users"]}
    assert {name for name in renewed if renewed[name] != hashes[name]} == {"beat"}


def test_definitions_hold_no_password_and_hash_every_one(folder: Path) -> None:
    text = (folder / "rabbitmq_definitions.json").read_text()
    hashes = {user["name"]: user["password_hash"] for user in definitions(folder)["users"]}
    for name in ACCOUNTS:
        password = urlsplit((folder / f"broker_url_{name.replace('-', '_')}").read_text()).password or ""
        assert len(password) > 40
        assert password not in text
        assert make_secrets._same_password(password, hashes[name])


def test_a_password_is_hashed_as_rabbitmq_documents_it() -> None:
    salt = bytes.fromhex("908dc60a")
    assert make_secrets.password_hash("test12", salt) == "kI3GCqW5JLMJa4iX1lo7X4D6XbYqlLgxIs30+P6tENUV2POR"


def test_it_tells_what_it_did_and_no_secret(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    (folder / "flower_basic_auth").unlink()
    make_secrets.make(folder)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines if "flower_basic_auth" in line] == ["made"]
    assert len(lines) == len(contents(folder))
    assert not any(text in "\n".join(lines) for text in contents(folder).values())


@pytest.mark.parametrize("spec", topology.TABLE, ids=lambda spec: spec.name)
def test_setup_may_declare_the_topology(spec: topology.QueueSpec) -> None:
    for pattern in (ACCOUNTS["setup"].configure, ACCOUNTS["setup"].write, ACCOUNTS["setup"].read):
        assert re.search(pattern, spec.name)
        assert re.search(pattern, spec.exchange)


@pytest.mark.parametrize("pool", topology.POOLS)
def test_each_pool_has_an_account_that_reads_its_queue_and_no_other(pool: str) -> None:
    account = ACCOUNTS[f"worker-{pool}"]
    lanes = [topology.lane(pool, isolated=isolated) for isolated in (False, True)]
    # Who reads the isolation lane has a process for it alone, but in the pools with one process for both.
    mine = lanes[:1] if f"worker-{pool}-isolated" in ACCOUNTS else lanes
    read = [spec.name for spec in topology.TABLE if re.search(account.read, spec.name)]
    assert read == [f"inference.{lane}" for lane in mine]


@pytest.mark.parametrize("name", sorted(set(ACCOUNTS) - {"setup"}))
def test_only_setup_configures_the_topology(name: str) -> None:
    named = {spec.name for spec in topology.TABLE} | {spec.exchange for spec in topology.TABLE}
    assert [entry for entry in named if re.search(ACCOUNTS[name].configure, entry)] == []


def test_only_the_dispatcher_sends_work() -> None:
    writers = {name for name, account in ACCOUNTS.items() if re.search(account.write, topology.REQUESTS)}
    assert writers == {"setup", "dispatcher"}


@pytest.mark.parametrize("account", make_secrets.ACCOUNTS, ids=lambda account: account.name)
def test_every_pattern_is_anchored(account: make_secrets.Account) -> None:
    for pattern in (account.configure, account.write, account.read):
        assert pattern.startswith("^")
        assert pattern.endswith("$")
        assert not re.search(pattern, "") or pattern == make_secrets.NOTHING
