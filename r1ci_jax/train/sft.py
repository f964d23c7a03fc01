"""Multi-turn supervised fine-tuning on demonstrations (paper section 4.1).

The policy learns the tokens that a policy would have chosen: reasoning, code, answers. Prompts and
interpreter output are read but carry no loss.
"""

import functools
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from r1ci_jax.config import SftConfig
from r1ci_jax.data import batching, encoding, packing
from r1ci_jax.sharding import placement
from r1ci_jax.train import guards, losses, optimizer
from r1ci_jax.train import train_state as state
from r1ci_jax.train.policy import Params, Policy, Weights
from r1ci_jax.train.training_run import TrainingLoop, TrainingRun


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
    """Make one optimizer step on the mean loss over all sampled tokens of the batch.

    The batch is computed in `num_microbatches` parts, whose gradients, losses and token counts are
    summed before anything is divided. `base` are the frozen weights under LoRA adapters, if any.
    """

    def loss_sum(trainable: Params, part: packing.PackedBatch[jax.Array]) -> jax.Array:
        mask_BT = part.loss_mask_BT[:, 1:]
        rows = part.tokens_BT, part.positions_BT, part.segments_BT
        loss, _ = policy.loss(
            losses.sft_token_loss,
            Weights(trainable, base),
            *rows,
            mask_BT=mask_BT,
            inputs=(mask_BT,),
        )
        return loss

    def add(total: tuple[jax.Array, Params], part: packing.PackedBatch[jax.Array]):
        more = jax.value_and_grad(loss_sum)(train_state.params, part)
        return placement.constrain_like_params(jax.tree.map(jnp.add, total, more)), None

    zero = jnp.float32(0.0), jax.tree.map(jnp.zeros_like, train_state.params)
    (loss, gradients), _ = jax.lax.scan(
        add, zero, placement.split_into_microbatches(batch, num_microbatches)
    )
    count = jnp.maximum(batch.loss_mask_BT[:, 1:].sum(dtype=jnp.float32), 1.0)
    gradients = jax.tree.map(lambda gradient: gradient / count, gradients)
    step_metrics = {"optim/loss": loss / count, "optim/grad_norm": optax.tree.norm(gradients)}
    return state.apply_gradients(train_state, gradients, tx), step_metrics


def train(
    policy: Policy,
    params: Params,
    sequences: Sequence[encoding.Encoded],
    config: SftConfig,
    run: TrainingRun,
    *,
    pad_id: int,
) -> Params:
    """Train to the end, from the last checkpoint if there is one, and return all parameters.

    `params` are used up. A batch with a loss or gradient that is not finite is kept
    in the run's `diverged_dir`.
    """
    # --- Data, optimizer, state ---
    batches, num_steps = _make_batches(sequences, config, seed=run.seed, pad_id=pad_id)
    schedule = _make_schedule(config, num_steps)
    learning_rates = optimizer.tabulate(schedule, num_steps)
    tx = optimizer.make_optimizer(
        schedule,
        clip_norm=config.clip_norm,
        weight_decay=config.weight_decay,
        b2=config.adam_b2,
    )
    weights = policy.split_trainable(params, seed=run.seed)
    identity = {"steps": num_steps}

    with run.start(weights.trainable, tx, config, num_steps, identity=identity) as loop:
        # --- Resume ---
        train_state = loop.train_state
        if loop.metadata is not None:
            batches.set_state(loop.metadata["batches"].encode())
        recorder = _Recorder(loop, learning_rates, run.diverged_dir)
        compiled = None

        # --- Train loop ---
        with guards.no_implicit_transfers():
            for step in range(loop.first_step, num_steps):
                host_batch = next(batches)
                batch = placement.shard_batch(host_batch)
                if compiled is None:
                    with loop.progress.compiling("training step", about=10):
                        compiled = sft_step.lower(
                            train_state,
                            batch,
                            weights.base,
                            policy=policy,
                            tx=tx,
                            num_microbatches=config.num_microbatches,
                        ).compile()
                    recorder.start_clock()
                train_state, step_metrics = compiled(train_state, batch, weights.base)
                # Fetches the metrics of the step before, while the devices compute this one.
                recorder.add(step + 1, step_metrics, host_batch)
                if loop.must_save(step + 1):
                    # A step is checked before it is saved.
                    loss = recorder.flush()
                    metadata = {"batches": batches.get_state().decode()}
                    loop.save(step + 1, train_state, metadata, metric=loss)
    return policy.merge_weights(Weights(train_state.params, weights.base))


def _make_batches(
    sequences: Sequence[encoding.Encoded], config: SftConfig, *, seed: int, pad_id: int
) -> tuple[batching.Batches[packing.PackedBatch[np.ndarray]], int]:
    """Pack the sequences; also return the number of batches of all epochs."""
    rows = packing.pack(
        sequences,
        config.sequence_length,
        pad_id=pad_id,
        max_sequences_per_row=None if config.packing else 1,
    )
    batches = packing.packed_batches(rows, config.batch_size, epochs=config.epochs, seed=seed)
    assert batches.steps is not None
    return batches, batches.steps


def _make_schedule(config: SftConfig, num_steps: int) -> optax.Schedule:
    warmup_steps = round(config.warmup_fraction * num_steps)
    if config.schedule == "cosine":
        return optimizer.cosine_schedule(config.lr, steps=num_steps, warmup_steps=warmup_steps)
    return optimizer.constant_schedule(config.lr, warmup_steps=warmup_steps)


class _Recorder:
    """Fetches, checks and writes the metrics of each step, one step late.

    The host prepares and dispatches a step while the devices still compute the one before. Only a
    step that is saved is waited for.
    """

    def __init__(self, loop: TrainingLoop, learning_rates: np.ndarray, diverged_dir: Path) -> None:
        self._loop = loop
        self._learning_rates = learning_rates
        self._diverged_dir = diverged_dir
        self._pending: _Dispatched | None = None
        self._recorded_at = time.monotonic()

    def start_clock(self) -> None:
        """Measure the first step's time from now on, without its compilation."""
        self._recorded_at = time.monotonic()

    def add(
        self,
        step: int,
        step_metrics: dict[str, jax.Array],
        host_batch: packing.PackedBatch[np.ndarray],
    ) -> None:
        """Take a step that was dispatched; record the one before it."""
        before, self._pending = self._pending, _Dispatched(step, step_metrics, host_batch)
        if before is not None:
            self._record(before)

    def flush(self) -> float:
        """Wait for the last step and record it; return its loss."""
        assert self._pending is not None, "no step was dispatched since the last flush"
        last, self._pending = self._pending, None
        return self._record(last)

    def _record(self, dispatched: "_Dispatched") -> float:
        step, step_metrics, host_batch = dispatched
        values = {name: float(x) for name, x in jax.device_get(step_metrics).items()}
        now = time.monotonic()
        values["rate/tokens_per_second"] = host_batch.tokens_BT.size / (now - self._recorded_at)
        values["optim/lr"] = float(self._learning_rates[step - 1])
        self._recorded_at = now
        path = self._diverged_dir / f"{self._loop.name}_step_{step}.npz"
        self._loop.record(
            step,
            values,
            save_batch=functools.partial(guards.save_arrays, path, host_batch),
            advice="lower sft.lr or raise sft.warmup_fraction",
            shown={"loss": "optim/loss"},
        )
        return values["optim/loss"]


class _Dispatched(NamedTuple):
    step: int
    metrics: dict[str, jax.Array]
    host_batch: packing.PackedBatch[np.ndarray]
