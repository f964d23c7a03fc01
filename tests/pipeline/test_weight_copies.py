"""The devices hold the copies of the weights that `r1ci plan` counts, and none more."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

COPIES = {
    **{"critic": [7], "decode": [4, 5, 7], "grpo": [4, 5, 7], "sft": [3]},
    **{"critic, cache": [0], "decode, cache": [2], "grpo, cache": [0], "sft, cache": [0]},
}
"""Parameters and two moments; for GRPO also gradients or the sampler's weights, with a KL term the
reference, and with a critic its parameters and two moments. The cache, keys and values of one
layer, is there while there is sampling."""


@pytest.mark.parametrize("devices", [1, 2])
def test_a_run_holds_as_many_copies_as_planned(
    run_on_devices: Callable[[int, str], str], tmp_path: Path, devices: int
) -> None:
    source = f"""
import sys, runpy
sys.argv = ["copies", {str(tmp_path)!r}, "{devices}"]
runpy.run_module("tests.pipeline.weight_copies", run_name="__main__")
"""
    found, planned = json.loads(run_on_devices(devices, source).splitlines()[-1])
    assert found == planned == COPIES
