"""What the environment tells every process, portal and workers alike. Standard library only."""

import os
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def secret(name: str, default: str = "", env: Mapping[str, str] = os.environ) -> str:
    """Return the variable `name`, or the text of the file that `{name}_FILE` points to (container secrets)."""
    path = env.get(f"{name}_FILE")
    return Path(path).read_text().strip() if path else env.get(name, default)


def run_dir() -> Path:
    """Return the folder for what a running system leaves on this machine: embedded database and broker, demo login."""
    return Path(os.environ.get("RUN_DIR", ROOT / ".run")).resolve()


def model_store_dir() -> Path:
    """Return the folder that holds the models."""
    return Path(os.environ.get("MODEL_STORE", ROOT / "models_store")).resolve()


def model_cache_bytes() -> int:
    """Return how much memory the loaded models of one worker process may take."""
    return int(os.environ.get("MODEL_CACHE_MB", "512")) * 2**20


def data_dir() -> str:
    """Return the storage for uploads and results of batches: a folder, or s3://bucket/prefix."""
    return os.environ.get("DATA_DIR") or str(run_dir() / "data")


def data_folders() -> list[str]:
    """Return the folders of this machine that batches may read and write."""
    return [folder for folder in os.environ.get("DATA_FOLDERS", "").split(os.pathsep) if folder]


def data_buckets() -> list[str]:
    """Return the buckets that batches may read and write, or parts of them: bucket/prefix."""
    named = (bucket.strip().strip("/") for bucket in os.environ.get("DATA_BUCKETS", "").split(","))
    return [bucket for bucket in named if bucket]


def broker_url() -> str:
    """Return the broker's address; the default is the embedded broker, a folder."""
    return secret("BROKER_URL", "filesystem://localhost//")


def broker_is_embedded() -> bool:
    """Tell whether messages are files in the run folder (one machine, no server)."""
    return broker_url().startswith("filesystem:")
