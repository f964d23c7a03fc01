"""A program of the update is compiled once per shape: in the warm-up, never again in a step."""

import collections
import dataclasses
import logging
import re
from pathlib import Path

import jax
import pytest

from r1ci_jax.train.policy import Params, Policy
from tests.train.tiny_training import CONFIG, STAGES, RecordingRunner, train


def test_the_first_step_uses_what_the_warm_up_compiled(
    tiny_policy: Policy,
    tiny_params: Params,
    runner: RecordingRunner,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    # No other test has this temperature, so nothing is compiled already.
    config = dataclasses.replace(CONFIG, temperature=0.93, sequence_lengths=(64, 128))
    how = dataclasses.replace(tiny_policy.train_config, lora_rank=2)
    adapted = dataclasses.replace(tiny_policy, train_config=how)
    with caplog.at_level(logging.WARNING), jax.log_compiles():
        train(adapted, tiny_params, runner, tmp_path, config, STAGES[:1])
    found = re.findall(r"Finished XLA compilation of jit\((\w+)\)", caplog.text)
    counts = collections.Counter(found)
    assert {name: counts[name] for name in ("compute_ref_logprobs", "accumulate_gradients")} == {
        "compute_ref_logprobs": 2,  # one per row length
        "accumulate_gradients": 2,
    }
    assert counts["zero_accumulator"] <= 1 and counts["apply_step"] == 1
