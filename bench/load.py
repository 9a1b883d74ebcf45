"""`make bench`: the full stack under the load of 32 clients, each sending one row at a time.

Prints jobs/s from accepted to result, p50 and p99 of submitting and of the whole way, and where the CPU time went.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import psutil

from bench.clients import KINDS
from tests import services
from tests.stack import Stack, running

PROGRAMS = {
    "portal": "granian",
    "dispatcher": "manage.py dispatch",
    "recorder": "-n recorder@",
    "worker": "-n cpu@",
    "batch worker": "-n batch",
    "courier": "manage.py deliver",
    "beat": "celery beat",
    "flower": "flower",
}


def main() -> None:
    """Start the stack, run each kind of load, print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=15.0, help="for each kind of load")
    parser.add_argument("--embedded", action="store_true", help="SQLite and a folder instead of the full stack")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        if options.embedded:
            with running(Stack(Path(folder))) as stack:
                measure(stack, options.clients, options.seconds, servers={})
            return
        with (
            services.postgres_server() as postgres,
            services.rabbitmq_server() as node,
            services.database(postgres) as database,
            services.virtual_host(node) as broker,
            running(Stack(Path(folder) / "run", database_url=database, broker_url=broker)) as stack,
        ):
            measure(stack, options.clients, options.seconds, servers={"postgresql": "postgres", "rabbitmq": "beam"})


def measure(stack: Stack, clients: int, seconds: float, servers: dict[str, str]) -> None:
    """Run every kind of load against a running stack and print a table, ratios to the first kind, and the CPU times."""
    print(f"{clients} clients, {seconds:g} s each, {psutil.cpu_count()} cores, 1 row a request", flush=True)
    load(stack, next(iter(KINDS)), clients, 3.0)
    rates = {}
    for kind in KINDS:
        before = cpu_seconds(stack, servers)
        measured, client_cpu = load(stack, kind, clients, seconds)
        rates[kind] = len(measured) / seconds
        used = cpu_seconds(stack, servers)
        print(f"\n{kind}: {rates[kind]:,.0f}/s")
        for name, column in (("submit", 0), ("end to end", 1)):
            times = sorted(row[column] * 1000 for row in measured)
            print(f"  {name:<11} p50 {times[len(times) // 2]:7.1f} ms   p99 {times[int(len(times) * 0.99)]:7.1f} ms")
        used.subtract(before)
        used["clients"] = client_cpu
        total = sum(used.values())
        for name, cpu in used.most_common():
            if cpu > 0.005 * total:
                bar = "#" * round(40 * cpu / total)
                print(f"  {name:<11} {cpu / len(measured) * 1e6:7.0f} µs CPU a request  {bar}")
        print(f"  {'all':<11} {total / len(measured) * 1e6:7.0f} µs")
    first = next(iter(rates))
    print("\n" + ", ".join(f"{kind}: {rate / rates[first]:.2f} x '{first}'" for kind, rate in rates.items()))


def load(stack: Stack, kind: str, clients: int, seconds: float) -> tuple[list[Any], float]:
    """Run one load in a process of its own. Returns what it measured and the CPU seconds of the clients."""
    command = [sys.executable, "-m", "bench.clients", stack.url, stack.api_key, kind, str(clients), str(seconds)]
    children = psutil.Process().cpu_times()
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    after = psutil.Process().cpu_times()
    cpu = after.children_user + after.children_system - children.children_user - children.children_system
    return json.loads(done.stdout), cpu


def cpu_seconds(stack: Stack, servers: dict[str, str]) -> Counter[str]:
    """Return the CPU seconds so far of each of the stack's programs, and of the servers that it uses."""
    used: Counter[str] = Counter()
    for process in psutil.process_iter():
        try:
            command = " ".join(process.cmdline())
            times = process.cpu_times()
            own = process.environ().get("SUPERVISED_IN") == str(stack.folder)
        except psutil.Error:
            continue
        for name, word in PROGRAMS.items():
            if own and word in command:
                used[name] += times.user + times.system
        for name, word in servers.items():
            if word in process.name():
                used[name] += times.user + times.system
    return used


if __name__ == "__main__":
    main()
