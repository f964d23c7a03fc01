"""Multi-turn supervised fine-tuning on demonstrations (paper section 4.1).

The policy learns the tokens that a policy would have chosen: reasoning, code, answers. Prompts and
interpreter output are read but carry no loss.
"""

import functools
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import optax
from etils import epath

from r1ci_jax.config import SftConfig
from r1ci_jax.data import encoding, packing
from r1ci_jax.runtime import metrics, preemption, progress
from r1ci_jax.sharding import placement
from r1ci_jax.train import checkpoint, guards, losses
from r1ci_jax.train import train_state as state
from r1ci_jax.train.policy import Params, Policy

STAGE = "sft"


@functools.partial(
    jax.jit,
    static_argnames=("policy", "tx", "num_microbatches"),
    donate_argnames=("train_state",),
)
def sft_step(
    train_state: state.TrainState,
    batch: packing.PackedBatch[jax.Array],
    base: Params | None = None,
    *,
    policy: Policy,
    tx: optax.GradientTransformation,
    num_microbatches: int = 1,
) -> tuple[state.TrainState, dict[str, jax.Array]]:
    """One optimiser step on the mean loss over all sampled tokens of the batch.

    The batch goes through in `num_microbatches` parts, whose gradients, losses and token counts are
    summed before anything is divided. `frozen` are the weights that are not trained, if any.
    """

    def loss_sum(params: Params, part: packing.PackedBatch[jax.Array]) -> jax.Array:
        mask_BT = part.loss_mask_BT[:, 1:]
        rows = part.tokens_BT, part.positions_BT, part.segments_BT
        loss, _ = policy.loss(
            losses.sft_token_loss,
            params,
            *rows,
            counted_BT=mask_BT,
            inputs=(mask_BT,),
            frozen=base,
        )
        return loss

    def add(total: tuple[jax.Array, Params], part: packing.PackedBatch[jax.Array]):
        more = jax.value_and_grad(loss_sum)(train_state.params, part)
        return placement.constrain_like_params(jax.tree.map(jnp.add, total, more)), None

    nothing = jnp.float32(0.0), jax.tree.map(jnp.zeros_like, train_state.params)
    (loss, gradients), _ = jax.lax.scan(
        add, nothing, placement.split_into_microbatches(batch, num_microbatches)
    )
    count = jnp.maximum(batch.loss_mask_BT[:, 1:].sum(dtype=jnp.float32), 1.0)
    gradients = jax.tree.map(lambda gradient: gradient / count, gradients)
    step_metrics = {"optim/loss": loss / count, "optim/grad_norm": optax.tree.norm(gradients)}
    return state.apply_gradients(train_state, gradients, tx), step_metrics


def train(
    policy: Policy,
    params: Params,
    rows: Sequence[encoding.Encoded],
    config: SftConfig,
    *,
    seed: int,
    checkpoints_dir: epath.PathLike,
    metrics_path: Path,
    diverged_dir: Path,
    before_commit: Callable[[], None] = lambda: None,
) -> Params:
    """Train to the end, from the last checkpoint if there is one. `params` is used up.

    A batch whose loss or gradient is no number is kept in `diverged_dir`. `before_commit` is that
    of the checkpoints. Returns all weights.
    """
    # --- Data ---
    packed = packing.pack(
        rows,
        config.sequence_length,
        pad_id=policy.tokenizer.pad_id,
        max_sequences_per_row=None if config.packing else 1,
    )
    batches = packing.packed_batches(packed, config.batch_size, epochs=config.epochs, seed=seed)
    assert batches.steps is not None
    total = batches.steps

    # --- Optimiser and state ---
    warmup_steps = round(config.warmup_fraction * total)
    if config.schedule == "cosine":
        schedule = state.cosine_schedule(config.lr, steps=total, warmup_steps=warmup_steps)
    else:
        schedule = state.constant_schedule(config.lr, warmup_steps=warmup_steps)
    tx = state.make_optimizer(
        schedule,
        clip_norm=config.clip_norm,
        weight_decay=config.weight_decay,
        b2=config.adam_b2,
    )
    trainable, base = policy.split_trainable(params, seed=seed)
    train_state = state.create_state(trainable, tx)

    with (
        checkpoint.CheckpointManager(
            checkpoints_dir,
            config.checkpoint_keep,
            keep_best=config.checkpoint_keep_best,
            training={"seed": seed, "steps": total},
            before_commit=before_commit,
        ) as checkpoints,
        metrics.MetricsWriter(metrics_path) as writer,
    ):
        start = 0
        found = checkpoints.restore_latest(checkpoint.abstract(train_state))
        if found is not None:
            start, train_state, saved = found
            batches.set_state(saved["batches"].encode())
        writer.truncate_after(STAGE, start)
        spikes = guards.LossSpikeDetector()
        spikes.resume(metrics.column(metrics_path, STAGE, "optim/loss"))

        # --- Train loop ---
        with progress.Progress(STAGE, total, start=start) as bar, guards.no_implicit_transfers():
            for step in range(start, total):
                host_batch = next(batches)
                batch = placement.shard_batch(host_batch)
                if step == start:
                    with bar.compiling("training step", about=10):
                        compiled = sft_step.lower(
                            train_state,
                            batch,
                            base,
                            policy=policy,
                            tx=tx,
                            num_microbatches=config.num_microbatches,
                        ).compile()
                began = time.monotonic()
                train_state, step_metrics = compiled(train_state, batch, base)
                values = {name: float(x) for name, x in jax.device_get(step_metrics).items()}
                guards.require_finite(
                    values,
                    step=step + 1,
                    save=functools.partial(
                        guards.save_arrays, diverged_dir / f"sft_step_{step + 1}.npz", host_batch
                    ),
                    advice="lower sft.lr or raise sft.warmup_fraction",
                )
                seconds = time.monotonic() - began
                values["optim/lr"] = state.learning_rate_at(schedule, step)
                values["check/loss_deviation"] = spikes.report(
                    STAGE, step + 1, values["optim/loss"]
                )
                values["rate/tokens_per_second"] = batch.tokens_BT.size / seconds
                writer.write(STAGE, step + 1, values)
                bar.update(step + 1, {"loss": values["optim/loss"]})
                is_due = (step + 1) % config.checkpoint_every == 0 or step + 1 == total
                stop = preemption.is_requested()
                if is_due or stop:
                    saved = {"batches": batches.get_state().decode()}
                    checkpoints.save(step + 1, train_state, saved, metric=values["optim/loss"])
                if stop:
                    raise preemption.preempted_error(after=f"{STAGE} step {step + 1}")
    return policy.merge_adapters(train_state.params, base)
