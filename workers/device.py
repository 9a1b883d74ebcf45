"""Which device a model runs on. Asks NVML, never CUDA: a CUDA context in a parent can't be forked."""

import contextlib
from functools import cache

import pynvml


@cache
def gpu_names() -> tuple[str, ...]:
    """Return the names of the GPUs that the driver reports; empty without a driver."""
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return ()
    try:
        handles = [pynvml.nvmlDeviceGetHandleByIndex(i) for i in range(pynvml.nvmlDeviceGetCount())]
        return tuple(str(pynvml.nvmlDeviceGetName(h)) for h in handles)
    finally:
        with contextlib.suppress(pynvml.NVMLError):
            pynvml.nvmlShutdown()


def resolve(requested: str) -> str:
    """Turn a manifest's device (`auto`, `cpu`, `cuda`, `cuda:1`) into what this machine uses: all but `auto`."""
    if requested == "auto":
        return "cuda" if gpu_names() else "cpu"
    return requested
