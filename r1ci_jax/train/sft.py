"""Multi-turn supervised fine-tuning on demonstrations (paper section 4.1).

The policy learns the tokens that a policy would have chosen: reasoning, code, answers. Prompts and
interpreter output are read but carry no loss.
"""

import functools
import time
from collections.abc import Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax

from r1ci_jax.core import metrics, progress
from r1ci_jax.core.config import SftConfig
from r1ci_jax.data import encoding, packing
from r1ci_jax.errors import UserError
from r1ci_jax.train import checkpoint, losses, state
from r1ci_jax.train.policy import Params, Policy

STAGE = "sft"


@functools.partial(jax.jit, static_argnames=("policy", "tx"), donate_argnames=("train_state",))
def sft_step(
    train_state: state.TrainState,
    batch: packing.PackedBatch[jax.Array],
    *,
    policy: Policy,
    tx: optax.GradientTransformation,
) -> tuple[state.TrainState, dict[str, jax.Array]]:
    """One optimiser step on the mean loss over all sampled tokens of the batch."""

    def loss_sum(params: Params) -> tuple[jax.Array, jax.Array]:
        logprobs_BT, _ = policy.logprobs(
            params, batch.tokens_BT, batch.positions_BT, batch.segments_BT
        )
        return losses.sft_loss(logprobs_BT, batch.loss_mask_BT[:, 1:])

    (total, count), gradients = jax.value_and_grad(loss_sum, has_aux=True)(train_state.params)
    count = jnp.maximum(count, 1.0)
    gradients = jax.tree.map(lambda gradient: gradient / count, gradients)
    step_metrics = {"optim/loss": total / count, "optim/grad_norm": optax.tree.norm(gradients)}
    return state.apply_gradients(train_state, gradients, tx), step_metrics


def train(
    policy: Policy,
    params: Params,
    rows: Sequence[encoding.Encoded],
    config: SftConfig,
    *,
    seed: int,
    checkpoints_dir: Path,
    metrics_path: Path,
) -> Params:
    """Train to the end, from the last checkpoint if there is one. `params` is used up.

    Returns the final weights; the last checkpoint in `checkpoints_dir` holds them too.
    """
    # --- Data ---
    packed = packing.pack(rows, config.sequence_length, pad_id=policy.tokenizer.pad_id)
    batches = packing.packed_batches(packed, config.batch_size, epochs=config.epochs, seed=seed)
    assert batches.steps is not None
    total = batches.steps

    # --- Optimiser and state ---
    warmup_steps = round(config.warmup_fraction * total)
    schedule = state.cosine(config.lr, steps=total, warmup_steps=warmup_steps)
    tx = state.make_optimizer(
        schedule,
        clip_norm=config.clip_norm,
        weight_decay=config.weight_decay,
        b2=config.adam_b2,
    )
    train_state = state.start(params, tx)

    with (
        checkpoint.Checkpoints(checkpoints_dir) as checkpoints,
        metrics.MetricsWriter(metrics_path) as writer,
    ):
        start = checkpoints.latest() or 0
        if start:
            train_state, saved = checkpoints.restore(start, checkpoint.abstract(train_state))
            batches.set_state(saved["batches"].encode())
        writer.truncate_after(STAGE, start)

        # --- Train loop ---
        with progress.Progress(STAGE, total, start=start) as bar:
            for step in range(start, total):
                batch = state.place_batch(next(batches))
                began = time.monotonic()
                if step == start:
                    with bar.compiling("training step", about=10):
                        compiled = sft_step.lower(
                            train_state, batch, policy=policy, tx=tx
                        ).compile()
                    began = time.monotonic()
                train_state, step_metrics = compiled(train_state, batch)
                values = {name: float(value) for name, value in step_metrics.items()}
                _refuse_non_finite(values, step + 1)
                seconds = time.monotonic() - began
                values["optim/lr"] = float(np.asarray(schedule(step)))
                values["rate/tokens_per_second"] = batch.tokens_BT.size / seconds
                writer.write(STAGE, step + 1, values)
                bar.update(step + 1, {"loss": values["optim/loss"]})
                if (step + 1) % config.checkpoint_every == 0 or step + 1 == total:
                    saved = {"batches": batches.get_state().decode()}
                    checkpoints.save(step + 1, train_state, saved)
    return train_state.params


def _refuse_non_finite(values: dict[str, float], step: int) -> None:
    if not np.isfinite(list(values.values())).all():
        raise UserError(
            f"training diverged at step {step} ({values}): lower sft.lr "
            "or raise sft.warmup_fraction"
        )
