"""Makes what compose.yaml mounts as secrets: `python deploy/make_secrets.py`. Standard library only.

A secret that exists is kept, so it is safe to run again, and after an upgrade it should be: RabbitMQ's definitions are
derived from the accounts below and the passwords, and are brought up to date.
"""

import argparse
import base64
import hashlib
import json
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

FOLDER = Path(__file__).resolve().parent / "secrets"
POSTGRES = "postgres:5432/inference"
RABBITMQ = "rabbitmq:5672"
VHOST = "inference"

# Compose mounts a secret with the owner and mode that it has here, and every image runs as a user of its own. So the
# folder is what keeps others on this machine out, and each container, which sees only its own files, can read them.
FOLDER_MODE = 0o700
FILE_MODE = 0o444

NOTHING = "^$"
UUID = "[0-9a-f-]{36}"
# What Celery itself uses: monitoring events go out through one exchange, remote control comes in through another one
# and is answered through a third. RabbitMQ asks for the right to configure even where the exchange exists.
EVENTS = ("celeryev",)
CONTROL = (r"celery\.pidbox",)
REPLIES = (r"reply\.celery\.pidbox",)


@dataclass(frozen=True, slots=True)
class Account:
    """One RabbitMQ account and what it may configure, write to and read from: regular expressions of names."""

    name: str
    configure: str = NOTHING
    write: str = NOTHING
    read: str = NOTHING


def _names(*patterns: str) -> str:
    return f"^({'|'.join(patterns)})$"


def _consumer(name: str, *, node: str, reads: tuple[str, ...], writes: tuple[str, ...] = ()) -> Account:
    """A Celery worker: its queues, what it publishes, and Celery's own mailbox of the node `<node>@<host>`."""
    mailbox = rf"{node}@[^@]+\.celery\.pidbox"
    return Account(
        name,
        configure=_names(*EVENTS, *CONTROL, *REPLIES, mailbox),
        write=_names(*EVENTS, *REPLIES, mailbox, *writes),
        read=_names(*CONTROL, mailbox, *reads),
    )


def _publisher(name: str, *, writes: str, reads: str = NOTHING) -> Account:
    """A process that publishes, and tells monitoring about it."""
    return Account(name, configure=_names(*EVENTS), write=_names(*EVENTS, writes), read=reads)


def _worker(pool: str, *, isolated: bool = False) -> Account:
    """A worker of a pool's own lane, or of the isolation lane beside it."""
    name, node, queue = f"worker-{pool}", pool, rf"inference\.{pool}"
    if isolated:
        name, node, queue = f"{name}-isolated", f"isolated-{pool}", rf"{queue}\.isolated"
    return _consumer(name, node=node, reads=(queue,), writes=(r"inference\.results",))


def _worker_of_both(pool: str) -> Account:
    """A worker of a pool's own lane and the isolation lane beside it, in its only process."""
    queue = rf"inference\.{pool}"
    return _consumer(f"worker-{pool}", node=pool, reads=(queue, rf"{queue}\.isolated"), writes=(r"inference\.results",))


def _monitor(name: str) -> Account:
    """Flower: hears events and asks workers, through queues of its own. It reaches no queue with work."""
    own = (rf"celeryev\.{UUID}", rf"{UUID}\.reply\.celery\.pidbox")
    return Account(
        name,
        configure=_names(*EVENTS, *CONTROL, *REPLIES, *own),
        write=_names(*CONTROL, *own),
        read=_names(*EVENTS, *REPLIES, *own),
    )


_TOPOLOGY = _names(r"inference\.[a-z]+(\.isolated)?", r"results\.[a-z]+", r"portal\.tasks")

_OWN = _names(r"subscriber\..+")

# The portal has none: it never talks to the broker.
ACCOUNTS = (
    Account("setup", configure=_TOPOLOGY, write=_TOPOLOGY, read=_TOPOLOGY),
    # What the broker gave up is for the dispatcher to record.
    _publisher("dispatcher", writes=r"inference\.requests", reads=_names(r"inference\.dead")),
    *(_worker(pool, isolated=isolated) for pool in ("cpu", "gpu") for isolated in (False, True)),
    *(_worker_of_both(pool) for pool in ("explain", "batch", "container")),
    _consumer("recorder", node="recorder", reads=(r"results\.recorder", r"portal\.tasks")),
    _publisher("beat", writes=r"portal\.tasks"),
    _monitor("flower"),
    # Events, and sinks: exchanges that subscribers have made.
    Account("courier", write=_names(r"inference\.events", r"subscriber\..+")),
    # Not ours: hears of what happens, and of requests if it wants, through queues of its own.
    Account("subscriber", configure=_OWN, write=_OWN, read=_names(r"subscriber\..+", r"inference\.(events|requests)")),
)


class SecretFiles:
    """The folder with the secrets; keeps what is there unless `force`."""

    def __init__(self, folder: Path, *, force: bool = False) -> None:
        self.folder = folder
        self.force = force
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(FOLDER_MODE)

    def keep(self, name: str, make: Callable[[], str]) -> str:
        """Return the secret, made now if there is none yet."""
        path = self.folder / name
        if path.exists() and not self.force:
            print(f"kept     {path}")
            path.chmod(FILE_MODE)
            return path.read_text()
        return self.write(name, make())

    def write(self, name: str, text: str) -> str:
        """Write a secret in one step; a container that runs sees the old one until it is created anew."""
        path = self.folder / name
        print(f"{'replaced' if path.exists() else 'made    '} {path}")
        draft = self.folder / f".{name}"
        draft.unlink(missing_ok=True)
        draft.touch(mode=0o600)
        draft.write_text(text)
        draft.chmod(FILE_MODE)
        draft.replace(path)
        return text


def _password() -> str:
    return secrets.token_urlsafe(32)


def password_hash(password: str, salt: bytes) -> str:
    """Return RabbitMQ's form of a password: base64 of a 4-byte salt and sha256(salt + password)."""
    return base64.b64encode(salt + hashlib.sha256(salt + password.encode()).digest()).decode()


def _same_password(password: str, hashed: str) -> bool:
    return password_hash(password, base64.b64decode(hashed)[:4]) == hashed


def definitions(passwords: dict[str, str], known_hashes: dict[str, str]) -> str:
    """Return RabbitMQ's definitions file: the virtual host, the accounts with hashed passwords, their permissions."""
    users, permissions = [], []
    for account in ACCOUNTS:
        password, known = passwords[account.name], known_hashes.get(account.name, "")
        hashed = known if known and _same_password(password, known) else password_hash(password, secrets.token_bytes(4))
        algorithm = "rabbit_password_hashing_sha256"
        users.append({"name": account.name, "password_hash": hashed, "hashing_algorithm": algorithm, "tags": []})
        permissions.append(
            {
                "user": account.name,
                "vhost": VHOST,
                "configure": account.configure,
                "write": account.write,
                "read": account.read,
            }
        )
    return json.dumps({"vhosts": [{"name": VHOST}], "users": users, "permissions": permissions}, indent=1) + "\n"


def make(folder: Path, *, force: bool = False) -> None:
    """Make every secret that is missing (all of them with `force`), and bring the definitions up to date."""
    files = SecretFiles(folder, force=force)
    files.keep("django_secret_key", lambda: secrets.token_urlsafe(50))
    files.keep("flower_basic_auth", lambda: f"operator:{_password()}")
    owner = files.keep("postgres_owner_password", _password)
    files.keep("database_url_owner", lambda: f"postgres://inference_owner:{owner}@{POSTGRES}")
    files.keep("database_url_app", lambda: f"postgres://inference_app:{_password()}@{POSTGRES}")
    passwords = {}
    for account in ACCOUNTS:
        name = f"broker_url_{account.name.replace('-', '_')}"
        url = files.keep(name, lambda user=account.name: f"amqp://{user}:{_password()}@{RABBITMQ}/{VHOST}")
        passwords[account.name] = unquote(urlsplit(url).password or "")
    old = files.folder / "rabbitmq_definitions.json"
    before = old.read_text() if old.exists() else ""
    known = {user["name"]: user["password_hash"] for user in json.loads(before)["users"]} if before else {}
    text = definitions(passwords, known)
    if text == before:
        print(f"kept     {old}")
    else:
        files.write(old.name, text)


def main() -> None:
    """Read the command line and make the secrets."""
    parser = argparse.ArgumentParser(description="Make the secrets that compose.yaml mounts; existing ones are kept.")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where (default: %(default)s)")
    parser.add_argument("--force", action="store_true", help="make all of them anew; docs/operations.md says what then")
    options = parser.parse_args()
    make(options.folder, force=options.force)


if __name__ == "__main__":
    main()
