"""Supervised fine-tuning learns the policy's own words, packs without leaking, and resumes."""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from r1ci_jax.config import SftConfig
from r1ci_jax.data import encoding, packing
from r1ci_jax.data.demonstrations import Demonstration, Segment
from r1ci_jax.data.encoding import Encoded
from r1ci_jax.errors import UserError
from r1ci_jax.runtime import metrics
from r1ci_jax.sharding import placement
from r1ci_jax.train import checkpoint, losses, optimizer, sft, train_state
from r1ci_jax.train.policy import Params, Policy, Weights
from tests.train.tiny_training import tokenizer, training_run

LENGTH = 96
CODE = "```python\nprint(1)\n```"


def demonstration(number: int = 3) -> Demonstration:
    return Demonstration(
        example_id=f"e{number}",
        task="toy_letters",
        agent="code_agent",
        kind="repair",
        prompt=f"How many {number}?",
        segments=(
            Segment.masked("```python\nprint(x)\n```"),
            Segment.observed("\nNo x\n"),
            Segment.learned(CODE),
            Segment.observed(f"\n{number}\n"),
            Segment.learned(f"<<<{number}>>>"),
        ),
        correct=True,
    )


def encoded(count: int) -> list[Encoded]:
    return [encoding.encode(demonstration(number), tokenizer()) for number in range(count)]


def packed_batch(rows: list[Encoded], length: int) -> Any:
    packed = packing.pack(rows, length, pad_id=tokenizer().pad_id)
    return jax.tree.map(
        jnp.asarray, next(packing.packed_batches(packed, len(packed), epochs=1, seed=0))
    )


def loss(params: Params, policy: Policy, batch: packing.PackedBatch) -> jax.Array:
    """Summed loss, as the step computes it."""
    mask_BT = batch.loss_mask_BT[:, 1:]
    masks = {"mask_BT": mask_BT, "inputs": (mask_BT,)}
    return policy.loss(losses.sft_token_loss, Weights(params), *batch[:3], **masks)[0]


loss_and_gradients = jax.jit(jax.value_and_grad(loss), static_argnums=1)


def test_gradient_reaches_exactly_the_policys_own_words(
    tiny_policy: Policy, tiny_params: Params
) -> None:
    batch = packed_batch(encoded(1), LENGTH)
    logprobs_BT, _ = tiny_policy.logprobs_and_entropy(Weights(tiny_params), *batch[:3])
    mask_BT = batch.loss_mask_BT[:, 1:]
    gradient_BT = jax.grad(lambda x_BT: losses.sft_token_loss(x_BT, mask_BT).sum())(logprobs_BT)
    assert set(np.unique(gradient_BT)) == {-1.0, 0.0}
    taught = batch.tokens_BT[:, 1:][gradient_BT == -1.0].tolist()
    assert tokenizer().decode(taught) == CODE + "<<<3>>>".replace("3", "0") + "<|im_end|>"


def test_output_at_the_end_is_read_by_nobody(tiny_policy: Policy, tiny_params: Params) -> None:
    row = encoded(1)[0]
    observation = np.array(tokenizer().encode("\nbanana 3\n"), np.int32)

    def with_output(ids: np.ndarray) -> Any:
        unsampled = np.zeros(len(ids), bool)
        longer = Encoded(
            tokens_T=np.concatenate([row.tokens_T, ids]),
            sampled_T=np.concatenate([row.sampled_T, unsampled]),
        )
        return packed_batch([longer], LENGTH + 32)

    left, left_gradients = loss_and_gradients(tiny_params, tiny_policy, with_output(observation))
    right, right_gradients = loss_and_gradients(
        tiny_params, tiny_policy, with_output(observation[::-1])
    )
    assert left == right
    for a, b in zip(jax.tree.leaves(left_gradients), jax.tree.leaves(right_gradients), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_packed_equals_separate(tiny_policy: Policy, tiny_params: Params) -> None:
    rows = encoded(3)
    together = packed_batch(rows, 3 * LENGTH)
    assert together.tokens_BT.shape[0] == 1
    apart = [packed_batch([row], LENGTH) for row in rows]
    loss_together, gradients_together = loss_and_gradients(tiny_params, tiny_policy, together)
    parts = [loss_and_gradients(tiny_params, tiny_policy, batch) for batch in apart]
    np.testing.assert_allclose(loss_together, sum(part[0] for part in parts), rtol=1e-5)
    gradients_apart = jax.tree.map(lambda *leaves: sum(leaves), *(part[1] for part in parts))
    for a, b in zip(
        jax.tree.leaves(gradients_together), jax.tree.leaves(gradients_apart), strict=True
    ):
        np.testing.assert_allclose(a, b, atol=2e-5, rtol=1e-4)


# --- the trainer ---------------------------------------------------------------------------------

CONFIG = SftConfig(
    epochs=6, batch_size=2, sequence_length=LENGTH, lr=1e-2, warmup_fraction=0.1, checkpoint_every=5
)
TIMES = ("time", "rate/tokens_per_second")


def train(policy: Policy, params: Params, place: Path, **changes: Any) -> Params:
    config = SftConfig(**{**vars(CONFIG), **changes})
    return sft.train(
        policy,
        jax.tree.map(jnp.copy, params),
        encoded(8),
        config,
        training_run("sft", place, seed=1),
        pad_id=tokenizer().pad_id,
    )


def timeless(place: Path) -> list[dict[str, Any]]:
    found = metrics.read(place / "metrics.jsonl")
    return [{key: row[key] for key in row if key not in TIMES} for row in found]


class Stopped(Exception):
    """Stands for whatever ends a run."""


def test_the_loss_falls_and_a_stopped_run_ends_as_an_uninterrupted_one(
    tiny_policy: Policy, tiny_params: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train(tiny_policy, tiny_params, tmp_path / "whole")
    rows = timeless(tmp_path / "whole")
    assert [row["step"] for row in rows] == list(range(1, 25))
    assert rows[0]["optim/loss"] > 4 and rows[-1]["optim/loss"] < 0.5 * rows[0]["optim/loss"]

    write = metrics.MetricsWriter.write

    def write_until_13(writer: metrics.MetricsWriter, stage: str, step: int, values: Any) -> None:
        if step == 13:
            raise Stopped
        write(writer, stage, step, values)

    monkeypatch.setattr(metrics.MetricsWriter, "write", write_until_13)
    with pytest.raises(Stopped):
        train(tiny_policy, tiny_params, tmp_path / "stopped")
    monkeypatch.setattr(metrics.MetricsWriter, "write", write)
    assert len(timeless(tmp_path / "stopped")) == 12  # two beyond the checkpoint at 10
    resumed = train(tiny_policy, tiny_params, tmp_path / "stopped")

    assert timeless(tmp_path / "stopped") == rows
    for a, b in zip(jax.tree.leaves(resumed), jax.tree.leaves(whole), strict=True):
        np.testing.assert_array_equal(a, b)
    # What is finished is not done again.
    finished = train(tiny_policy, tiny_params, tmp_path / "stopped")
    for a, b in zip(jax.tree.leaves(finished), jax.tree.leaves(whole), strict=True):
        np.testing.assert_array_equal(a, b)
    assert timeless(tmp_path / "stopped") == rows


# Where no checkpoint is due, the next step is dispatched before the divergence is seen.
@pytest.mark.parametrize("checkpoint_every", [1, 5])
def test_divergence_is_said_and_not_saved(
    tiny_policy: Policy, tiny_params: Params, tmp_path: Path, checkpoint_every: int
) -> None:
    broken = jax.tree.map(lambda leaf: leaf * jnp.inf, tiny_params)
    with pytest.raises(UserError, match=r"training diverged at step 1 .* lower sft.lr or raise"):
        train(tiny_policy, broken, tmp_path, checkpoint_every=checkpoint_every)
    assert metrics.read(tmp_path / "metrics.jsonl") == []
    assert not list((tmp_path / "checkpoints").glob("*"))
    assert [path.name for path in (tmp_path / "diverged").iterdir()] == ["sft_step_1.npz"]


@pytest.mark.parametrize("changes", [{"num_microbatches": 4}, {"num_microbatches": 2}])
def test_a_batch_in_parts_is_the_same_step(
    tiny_policy: Policy, tiny_params: Params, changes: dict[str, int]
) -> None:
    # Rows with very different numbers of learnt tokens: means of means would differ.
    batch = packed_batch(encoded(4), LENGTH)
    batch = jax.tree.map(lambda rows: jnp.resize(rows, (4, LENGTH)), batch)
    mask_BT = np.array(batch.loss_mask_BT)
    mask_BT[1, : LENGTH // 2] = False
    mask_BT[2] = False
    batch = batch._replace(loss_mask_BT=jnp.asarray(mask_BT))
    tx = optimizer.make_optimizer(optimizer.constant_schedule(1e-2), clip_norm=1.0)

    def step(**changes: int) -> Any:
        begun = train_state.create_state(jax.tree.map(jnp.copy, tiny_params), tx)
        return sft.sft_step(begun, batch, policy=tiny_policy, tx=tx, **changes)

    (whole, values), (parts, others) = step(), step(**changes)
    for name in values:
        np.testing.assert_allclose(values[name], others[name], rtol=1e-5)
    # Adam divides by tiny numbers: its moments, linear in the gradients, say more.
    moments = (each.opt_state[1][0].mu for each in (whole, parts))
    for a, b in zip(*map(jax.tree.leaves, moments), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-7, rtol=1e-4)


def test_the_gradient_of_an_unlearnt_batch_is_zero(
    tiny_policy: Policy, tiny_params: Params
) -> None:
    batch = packed_batch(encoded(2), LENGTH)
    batch = batch._replace(loss_mask_BT=jnp.zeros_like(batch.loss_mask_BT))
    _, gradients = loss_and_gradients(tiny_params, tiny_policy, batch)
    assert not any(leaf.any() for leaf in jax.tree.leaves(gradients))


def test_a_constant_schedule_does_not_fall(
    tiny_policy: Policy, tiny_params: Params, tmp_path: Path
) -> None:
    train(tiny_policy, tiny_params, tmp_path, schedule="constant", epochs=2, warmup_fraction=0.0)
    assert {row["optim/lr"] for row in timeless(tmp_path)} == {np.float32(CONFIG.lr)}


def test_lora_trains_only_its_additions(
    tiny_policy: Policy, tiny_params: Params, tmp_path: Path
) -> None:
    how = dataclasses.replace(tiny_policy.train_config, lora_rank=4, lora_alpha=8.0)
    small = dataclasses.replace(tiny_policy, train_config=how)
    trained = train(small, tiny_params, tmp_path / "whole", epochs=4)
    rows = timeless(tmp_path / "whole")
    assert rows[-1]["optim/loss"] < 0.95 * rows[0]["optim/loss"]
    for name in ("embed", "norm"):
        np.testing.assert_array_equal(trained[name][...], tiny_params[name][...])
    for name, leaf in trained["layers"].items():
        was = tiny_params["layers"][name][...]
        changed = np.asarray(leaf[...]) - np.asarray(was)
        assert changed.any() == (not name.startswith("norm") and "bias" not in name), name
        if name == "gate":
            assert all(np.linalg.matrix_rank(layer, tol=1e-5) <= 4 for layer in changed)
    # Resumed from its checkpoint, which holds the additions alone.
    again = train(small, tiny_params, tmp_path / "whole", epochs=4)
    for a, b in zip(jax.tree.leaves(again), jax.tree.leaves(trained), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_step_is_recorded_while_the_next_one_runs(
    tiny_policy: Policy, tiny_params: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[str] = []
    shard, write = placement.shard_batch, metrics.MetricsWriter.write
    save = checkpoint.CheckpointManager.save

    def note_dispatch(batch: Any) -> Any:
        events.append(f"dispatch {sum(event.startswith('dispatch') for event in events) + 1}")
        return shard(batch)

    def note_write(writer: metrics.MetricsWriter, stage: str, step: int, values: Any) -> None:
        events.append(f"write {step}")
        write(writer, stage, step, values)

    def note_save(manager: Any, step: int, *arguments: Any, **options: Any) -> None:
        events.append(f"save {step}")
        save(manager, step, *arguments, **options)

    monkeypatch.setattr(placement, "shard_batch", note_dispatch)
    monkeypatch.setattr(metrics.MetricsWriter, "write", note_write)
    monkeypatch.setattr(checkpoint.CheckpointManager, "save", note_save)
    train(tiny_policy, tiny_params, tmp_path, epochs=1, checkpoint_every=3)
    # A step that is saved is waited for: it is checked and written first.
    assert events == [
        "dispatch 1", "dispatch 2", "write 1", "dispatch 3", "write 2", "write 3", "save 3",
        "dispatch 4", "write 4", "save 4",
    ]  # fmt: skip
