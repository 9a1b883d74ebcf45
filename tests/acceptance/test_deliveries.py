"""Every way out of the full stack: sinks (a real S3 server, a folder, a queue of RabbitMQ, a receiver), webhooks (of a
request, registered), and the example subscriber."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pyarrow.parquet as pq
import yaml
from kombu import Connection, Queue
from pyarrow import fs
from standardwebhooks import Webhook

from tests.integration.receiver import receiving
from tests.s3_server import s3_server
from tests.stack import ROOT, Stack, wait_for

WINE = [14.23, 1.71, 2.43, 15.6, 127.0, 2.8, 3.06, 0.28, 2.29, 5.64, 1.04, 3.92, 1065.0]
SINKS = ("shelf", "lake", "line", "desk")


def test_the_result_of_a_job_is_in_the_sink_that_it_names(full_stack: Stack) -> None:
    variables = full_stack.environment
    sinks = yaml.safe_load(Path(variables["SINKS_FILE"]).read_text())
    s3_port = urlsplit(variables["S3_ENDPOINT"]).port or 0
    desk_port = urlsplit(sinks["desk"]["url"]).port or 0
    with (
        s3_server(s3_port) as address,
        receiving(desk_port) as receiver,
        Connection(variables["BROKER_URL"]) as connection,
    ):
        owner = fs.S3FileSystem(
            endpoint_override=address, access_key="id", secret_key="key", region="us-east-1", allow_bucket_creation=True
        )
        owner.create_dir("results")
        queue = Queue("subscriber.sink", exchange=None, queue_arguments={"x-queue-type": "quorum"})
        bound = queue(connection.default_channel)
        bound.declare()

        answer = full_stack.client.post(
            "/api/jobs/bulk/", json={"jobs": [{"model": "wine", "rows": [WINE], "sink": name} for name in SINKS]}
        )
        jobs = dict(zip(SINKS, (each["Id"] for each in answer.json()["results"]), strict=True))
        keys = {name: arrived(full_stack, job) for name, job in jobs.items()}

        answer = full_stack.client.get(f"/api/jobs/{jobs['desk']}/result/")
        label = answer.json()["predictions"][0]["label"]
        shelved = (Path(sinks["shelf"]["root"]) / keys["shelf"]).read_text().splitlines()
        assert keys["shelf"].endswith(f"/{jobs['shelf']}.csv")
        assert shelved[0].split(",")[-1] == "label" and shelved[1].split(",")[-1] == label
        with owner.open_input_file(f"results/{keys['lake']}") as file:
            assert pq.read_table(file).to_pydict()["label"] == [label]
        message = bound.get(no_ack=True, accept=None)
        event = json.loads(message.body)
        assert message.properties["message_id"] == event["id"] == f"job-{jobs['line']}-1"
        called = Webhook(variables["DESK_KEY"]).verify(receiver.calls[0].body, receiver.calls[0].headers)
        assert called["id"] == f"job-{jobs['desk']}-1"
        for each in (event, called):
            assert [tensor["data"] for tensor in each["data"]["outputs"] if tensor["name"] == "label"] == [[label]]
        assert len(receiver.calls) == 1 and bound.get(no_ack=True, accept=None) is None


def test_a_job_is_told_to_the_webhook_of_its_request_to_registered_ones_and_to_subscribers(
    full_stack: Stack, tmp_path: Path
) -> None:
    client = full_stack.client
    with receiving() as receiver, subscribed(full_stack, tmp_path / "heard") as heard:
        made = client.post("/api/webhooks/", json={"url": f"{receiver.url}/registered", "events": ["inference.job.*"]})
        answer = client.post("/api/jobs/", json={"model": "wine", "rows": [WINE], "webhook": f"{receiver.url}/asked"})
        assert made.status_code == 201 and answer.status_code == 202, f"{made.text} {answer.text}"
        event_id = f"job-{answer.json()['Id']}-1"
        wait_for(lambda: len(receiver.calls) == 2 and event_id in heard.read_text(), 120, full_stack.logs)
        secrets = {
            "/hook/asked": client.get("/api/webhooks/secret/").json()["secret"],
            "/hook/registered": made.json()["secret"],
        }
        for call in receiver.calls:
            event = Webhook(secrets.pop(call.path)).verify(call.body, call.headers)
            assert (event["id"], event["type"]) == (event_id, "inference.job.succeeded")
        assert [line.split()[1:] for line in heard.read_text().splitlines() if line.split()[0] == event_id] == [
            ["inference.job.succeeded", "wine"]
        ]
        assert client.delete(f"/api/webhooks/{made.json()['id']}/").status_code == 204


@contextmanager
def subscribed(stack: Stack, path: Path) -> Iterator[Path]:
    """Run the example subscriber; what it prints is in the file."""
    command = [sys.executable, str(ROOT / "examples" / "subscriber.py")]
    with path.open("w") as output:
        process = subprocess.Popen(command, env=stack.environment, stdout=output)
        try:
            with Connection(stack.environment["BROKER_URL"]) as connection:

                def is_bound() -> bool:
                    try:
                        connection.channel().queue_declare("subscriber.example", passive=True)
                    except connection.channel_errors:
                        return False
                    return True

                wait_for(is_bound, 60, lambda: str(process.poll()))
            yield path
        finally:
            process.terminate()
            process.wait()


def arrived(stack: Stack, job: str) -> str:
    """Wait for the job's only delivery, and return what its sink says of it."""

    def deliveries() -> list[dict[str, str]]:
        found: list[dict[str, str]] = stack.client.get(f"/api/jobs/{job}/").json()["deliveries"]
        return found

    wait_for(
        lambda: [each["state"] for each in deliveries()] == ["delivered"],
        120,
        lambda: f"{deliveries()}\n{stack.logs()}",
    )
    detail = stack.client.get(f"/api/deliveries/{deliveries()[0]['id']}/").json()
    excerpt: str = detail["attempts"][-1]["excerpt"]
    return excerpt
