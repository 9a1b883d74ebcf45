"""Serve one model of the store by the Open Inference Protocol (V2) over HTTP, also asynchronously, without an engine.

It asks nobody who they are: let only those reach it who may.
"""

import argparse
import os

from granian import Granian
from granian.constants import Interfaces

from workers.config import model_store_dir
from workers.model_store import ModelStore, UnknownModel
from workers.serve.options import Options


def main() -> None:
    """Read the command line, and serve until told to stop."""
    parser = argparse.ArgumentParser(prog="python -m workers.serve", description=__doc__)
    parser.add_argument("--model", required=True, help="a model of the store (MODEL_STORE)")
    parser.add_argument("--version", help="one of its versions; the newest if it is left out")
    parser.add_argument("--host", default="127.0.0.1", help="the address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, default=8080, help="(default: %(default)s)")
    parser.add_argument("--threads", type=int, default=2, help="predictions at once (default: %(default)s)")
    parser.add_argument(
        "--webhook-hosts", default="", help="host names, with commas between, that may be told when a task has ended"
    )
    options = parser.parse_args()
    try:
        release = ModelStore(model_store_dir()).get(options.model, options.version)
    except UnknownModel as error:
        parser.error(str(error))
    if release.manifest.container is not None:
        parser.error(f"{options.model} is in a container of its own already")
    # For the process that Granian starts.
    os.environ["SERVE_OPTIONS"] = Options(
        model=options.model,
        version=release.manifest.version,
        threads=max(1, options.threads),
        webhook_hosts=tuple(filter(None, options.webhook_hosts.split(","))),
    ).to_json()
    # One process: it is what remembers the tasks. XGBoost lets threads predict side by side.
    server = Granian(
        "workers.serve.app:create",
        address=options.host,
        port=options.port,
        interface=Interfaces.ASGI,
        factory=True,
        workers=1,
        websockets=False,
    )
    server.serve()


if __name__ == "__main__":
    main()
