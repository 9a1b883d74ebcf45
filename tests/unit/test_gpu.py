"""Training and predicting on a real GPU; skipped, with the reason, where there is none. See docs/gpu.md."""

import numpy as np
import pytest

from bench.gpu import compared, model_on, table, trained
from workers.device import gpu_names

needs_gpu = [
    pytest.mark.gpu,
    pytest.mark.skipif(not gpu_names(), reason="the NVIDIA driver reports no GPU on this machine"),
]


class TestOnAGpu:
    pytestmark = needs_gpu

    def test_predictions_are_those_of_the_cpu(self) -> None:
        found = compared(trained("cuda", rows=5_000, rounds=30), rows=4_096, repeats=1)
        assert found.apart < 1e-5

    def test_the_device_in_effect_is_the_gpu_that_was_asked_for(self) -> None:
        artifact = trained("cuda", rows=1_000, rounds=3)
        assert model_on("cuda", artifact).device.startswith("cuda")
        assert model_on("cuda:0", artifact).device == "cuda:0"
        assert model_on("auto", artifact).device.startswith("cuda")

    def test_contributions_are_those_of_the_cpu(self) -> None:
        artifact = trained("cuda", rows=1_000, rounds=10)
        rows = table(20, seed=3)
        on_gpu, on_cpu = (model_on(device, artifact).contributions(rows) for device in ("cuda", "cpu"))
        np.testing.assert_allclose(on_gpu, on_cpu, atol=1e-4)


def test_a_gpu_beyond_the_last_one_is_refused() -> None:
    """Also where there is none."""
    with pytest.raises(ValueError, match=r"asks for cuda:9, this machine has \d+ GPUs"):
        model_on("cuda:9", trained("cpu", rows=200, rounds=2))
