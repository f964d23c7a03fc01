"""The engine's greedy tokens are those of the reference implementation (transformers)."""

import pathlib

import numpy as np
import pytest

from r1ci_jax.config import SamplerConfig, SamplingParams
from r1ci_jax.model import qwen2
from r1ci_jax.model.hf import weights
from r1ci_jax.sampling import stop_automaton
from r1ci_jax.sampling.engine import Engine, SlotInput


@pytest.mark.parametrize("name", ["untied_gqa", "tied_mqa", "sharded_bf16"])
def test_greedy_tokens_equal_the_reference(shared_data: pathlib.Path, name: str) -> None:
    slots = 2
    directory = shared_data / "qwen2_golden" / name
    with np.load(directory / "golden.npz") as file:
        golden = {key: file[key] for key in ("input_ids", "attention_mask", "greedy")}
    model = weights.load_pretrained(directory)
    vocab, steps = model.config.vocab_size, golden["greedy"].shape[1]
    never = stop_automaton.TokenTable(
        next_state_AV=np.zeros((1, vocab), np.int16), stop_A=np.zeros(1, np.int8), start=0
    )
    sampler = SamplerConfig(
        slots=slots, cache_length=64, chunk_steps=5, prefill_buckets=(8, 16), prefill_rows=2
    )
    engine = Engine(model.config, sampler, never, stop_token_ids=(), seed=0)
    engine.load(qwen2.decoder_weights(model, model.config))
    rows = range(len(golden["input_ids"]))
    found: dict[int, list[int]] = {row: [] for row in rows}
    for first in range(0, len(rows), slots):
        here = rows[first : first + slots]
        engine.feed(
            [
                SlotInput(
                    slot=row - first,
                    tokens=tuple(
                        golden["input_ids"][row][
                            golden["attention_mask"][row].astype(bool)
                        ].tolist()
                    ),
                    position=0,
                    budget=steps,
                    rollout_id=(row, 0),
                    sampling=SamplingParams(temperature=0),
                )
                for row in here
            ]
        )
        while emitted := engine.decode():
            for each in emitted:
                found[first + each.slot] += each.tokens
    np.testing.assert_array_equal([found[row] for row in rows], golden["greedy"])
