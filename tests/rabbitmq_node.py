"""A RabbitMQ node of a test's own, which the test may stop, kill and start again."""

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from urllib.parse import quote
from uuid import uuid4

import psutil

from tests.ports import free_ports
from tests.stack import wait_for

# Debian's wrapper in /usr/sbin switches to the user rabbitmq, who can't read a test's folder.
SCRIPTS = "/usr/lib/rabbitmq/bin:/opt/rabbitmq/sbin"
# A busy machine takes more than a minute to start a node.
PATIENCE_SECONDS = 180.0
# How old the counts of a quorum queue may be; five seconds without this.
TICK_SECONDS = 1.0


class NodeError(RuntimeError):
    """The node didn't start, or a command failed; the text holds what it printed."""


def rabbitmq_is_installed() -> bool:
    """Tell whether this machine has a RabbitMQ server."""
    return _script("rabbitmq-server") is not None


class RabbitMQNode:
    """One node with its own name, ports, data and port mapper, all of it in `folder`.

    `settings` are lines of rabbitmq.conf. Used as a context manager it runs inside the block, and nothing is left
    afterwards; `stop` or `kill9`, then `start`, keep the data in between.
    """

    def __init__(self, folder: Path, settings: Mapping[str, str] | None = None) -> None:
        self.folder = folder
        self.port, self._dist_port, self._epmd_port = free_ports(3)
        self.name = f"test{self.port}@localhost"
        # The log's size as in deploy/rabbitmq.conf.
        usual = {"log.console.level": "warning", "raft.wal_max_size_bytes": "33554432"}
        self._settings = {**usual, **(settings or {})}
        self._process: subprocess.Popen[bytes] | None = None

    def url(self, user: str = "guest", password: str = "guest", vhost: str = "/") -> str:
        """Return the address for one account."""
        return f"amqp://{quote(user, '')}:{quote(password, '')}@127.0.0.1:{self.port}/{quote(vhost, '')}"

    def start(self) -> None:
        """Start the node and wait until it takes connections. Raises NodeError."""
        server = _script("rabbitmq-server")
        if server is None:
            raise NodeError("rabbitmq-server is not installed")
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "plugins").write_text("[].\n")
        (self.folder / "rabbitmq.conf").write_text(
            "".join(f"{name} = {value}\n" for name, value in {**self._settings, **self._listener()}.items())
        )
        tick = f"[{{rabbit, [{{quorum_tick_interval, {TICK_SECONDS * 1000:.0f}}}]}}].\n"
        (self.folder / "advanced.config").write_text(tick)
        with (self.folder / "output.log").open("ab") as output:
            self._process = subprocess.Popen(
                [server], env=self._environment(), stdout=output, stderr=output, start_new_session=True
            )
        end = time.monotonic() + PATIENCE_SECONDS
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > end:
                self.kill9()
                raise NodeError(f"the node is not up:\n{(self.folder / 'output.log').read_text()[-4000:]}")
            time.sleep(0.1)

    def ctl(self, *args: str, check: bool = True) -> str:
        """Run `rabbitmqctl` on this node and return what it printed. Raises NodeError."""
        command = [str(_script("rabbitmqctl")), "--quiet", "--node", self.name, *args]
        done = subprocess.run(
            command, env=self._environment(), capture_output=True, text=True, timeout=PATIENCE_SECONDS
        )
        if check and done.returncode:
            raise NodeError(f"rabbitmqctl {' '.join(args)}: {done.stdout}{done.stderr}")
        return done.stdout

    def evaluate(self, code: str) -> str:
        """Evaluate Erlang on this node and return what it printed. Raises NodeError.

        `rabbitmqctl` starts a virtual machine of its own for that, a second of CPU; `erl_call` is a small program.
        """
        program = next(Path("/usr/lib/erlang/lib").glob("erl_interface-*/bin/erl_call"), None)
        if program is None:
            return self.ctl("eval", code)
        end = time.monotonic() + PATIENCE_SECONDS
        while True:
            done = subprocess.run(
                [str(program), "-sname", self.name, "-h", f"call-{uuid4().hex}", "-e"],
                env=self._environment(),
                input=f"{code}\n",
                capture_output=True,
                text=True,
                timeout=PATIENCE_SECONDS,
            )
            if done.stdout.startswith("{ok,"):
                return done.stdout
            # A node that is busy is slow to shake hands; nothing was evaluated then.
            if "failed to connect" not in done.stderr or time.monotonic() > end:
                raise NodeError(f"{code}: {done.stdout}{done.stderr}")
            time.sleep(0.1)

    def messages(self) -> dict[str, int]:
        """Return how many messages each queue holds, delivered ones that nobody has acknowledged among them.

        They are as old as TICK_SECONDS may make them.
        """
        counts = "{messages_ready, R}, {messages_unacknowledged, U}"
        items = "[name, messages_ready, messages_unacknowledged]"
        told = self.evaluate(
            'lists:flatten([io_lib:format("~s ~b,", [N, R + U])'
            f' || [{{name, {{resource, _, queue, N}}}}, {counts}] <- rabbit_amqqueue:info_all(<<"/">>, {items})]).'
        )
        return {name: int(count) for name, count in re.findall(r'([^",\s]+) (\d+),', told)}

    def stop(self) -> None:
        """Stop the node in good order."""
        self._end(signal.SIGTERM)

    def kill9(self) -> None:
        """Kill the node as a power cut would."""
        self._end(signal.SIGKILL)

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """Inside the block the node does nothing at all, and its connections stay open."""
        machines = self.virtual_machines()
        for machine in machines:
            machine.suspend()
        try:
            # On a busy machine its threads go on until each has had a turn to see the signal.
            wait_for(lambda: all(map(_is_stopped, machines)), 10, lambda: f"{self.name} is not to be stopped")
            yield
        finally:
            for machine in machines:
                machine.resume()

    def virtual_machines(self) -> list[psutil.Process]:
        """Return the node's Erlang processes; none if it has ended."""
        found = []
        for process in psutil.process_iter(["name"]):
            if process.info["name"] == "beam.smp":
                with contextlib.suppress(psutil.Error):
                    ours = process.environ().get("RABBITMQ_NODENAME") == self.name
                    if ours and process.status() != psutil.STATUS_ZOMBIE:
                        found.append(process)
        return found

    def __enter__(self) -> "RabbitMQNode":
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        subprocess.run(["epmd", "-kill"], env=self._environment(), capture_output=True, check=False)

    def _listener(self) -> dict[str, str]:
        return {"listeners.tcp.default": f"127.0.0.1:{self.port}"}

    def _environment(self) -> dict[str, str]:
        return {
            "PATH": f"{SCRIPTS}:{os.environ['PATH']}",
            "LANG": "C.UTF-8",
            "HOME": str(self.folder),
            "RABBITMQ_NODENAME": self.name,
            "RABBITMQ_DIST_PORT": str(self._dist_port),
            "RABBITMQ_MNESIA_BASE": str(self.folder / "data"),
            "RABBITMQ_LOG_BASE": str(self.folder / "log"),
            "RABBITMQ_PID_FILE": str(self.folder / "pid"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.folder / "plugins"),
            "RABBITMQ_CONFIG_FILE": str(self.folder / "rabbitmq.conf"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(self.folder / "advanced.config"),
            "RABBITMQ_CONF_ENV_FILE": os.devnull,
            # The machine's port mapper stays out of it; ours ends with the node.
            "ERL_EPMD_PORT": str(self._epmd_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
        }

    def _answers(self) -> bool:
        """A node answers a connection that speaks no AMQP with the protocol's header."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as probe:
                probe.sendall(b"HTTP/1.0")
                return probe.recv(8).startswith(b"AMQP")
        except OSError:
            return False

    def _end(self, number: int) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        # The server's script is a shell with the virtual machine as its child: signal the whole session.
        for wanted in (number, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, wanted)
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                continue
        _wait_until_closed(self.port)


def _is_stopped(process: psutil.Process) -> bool:
    """Whether every thread of it is."""
    threads = (psutil.Process(thread.id) for thread in process.threads())
    return all(thread.status() == psutil.STATUS_STOPPED for thread in threads)


def _wait_until_closed(port: int) -> None:
    end = time.monotonic() + 10
    while time.monotonic() < end:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)):
                return
        time.sleep(0.05)


def _script(name: str) -> str | None:
    return shutil.which(name, path=SCRIPTS)
