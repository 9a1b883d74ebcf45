"""METRICS_ADDRESS: the metrics without a key, on an address that only the monitoring can reach."""

import logging
import threading
import time
from wsgiref.simple_server import WSGIServer

from prometheus_client import start_http_server

from inference_portal.api.exposition import REGISTRY
from inference_portal.host_port import host_and_port

logger = logging.getLogger(__name__)

# Another portal process on this machine may have the address: when it is gone, one that is left takes over.
AGAIN_SECONDS = 5.0


def start(address: str) -> None:
    """Serve in threads of this process from now on, or from when the address is free. Raises ValueError."""
    threading.Thread(target=listen, args=host_and_port(address), name="metrics-address", daemon=True).start()


def listen(host: str, port: int, again: float = AGAIN_SECONDS) -> WSGIServer:
    """Wait until the address is free. Returns the server, which runs."""
    said = ""
    while True:
        try:
            server, _ = start_http_server(port, host, REGISTRY)
        except OSError as error:
            if said != str(error):
                said = str(error)
                logger.warning("no metrics at %s:%d, trying again every %g s: %s", host, port, again, error)
            time.sleep(again)
        else:
            logger.info("metrics at http://%s:%d/metrics", host, server.server_port)
            return server
