"""What one device, or a host of several, computes: steps of both trainers, and rollouts.

As a program it is one of the hosts, and leaves what it computed in a file.
"""

import concurrent.futures
import pathlib
import pickle
import sys
import threading
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from flax import nnx

from r1ci_jax.config import TrainConfig
from r1ci_jax.data.packing import PackedBatch
from r1ci_jax.model import qwen2, sampler_weights
from r1ci_jax.rollout.episode import Request
from r1ci_jax.rollout.trajectory import Trajectory
from r1ci_jax.runtime import hosts
from r1ci_jax.sandbox import ExecResult, Sandbox, SandboxConfig
from r1ci_jax.sharding import mesh as meshes
from r1ci_jax.sharding import placement
from r1ci_jax.text import tokenizer as tokenizers
from r1ci_jax.train import grpo_step, microbatching, optimizer, sft, train_state
from r1ci_jax.train.objective.loss_settings import LossSettings
from r1ci_jax.train.policy import Policy, Weights
from tests.load import PATIENCE
from tests.rollout.conftest import CONFIG as SCRIPTED
from tests.rollout.conftest import World
from tests.rollout.scripts import MIXED, ragged

LOSS = LossSettings(kl_coef=0.001)
CONFIG = qwen2.Qwen2Config(
    vocab_size=320, width=32, layers=2, query_heads=4, kv_heads=2, head_dim=8, mlp_width=64,
    tied=False,
)  # fmt: skip
ROLLOUTS = 24


class Counted:
    """A sandbox, and how many scripts it was given."""

    def __init__(self, box: Sandbox) -> None:
        self.scripts = 0
        self._box = box

    def submit(self, code: str) -> concurrent.futures.Future[ExecResult]:
        self.scripts += 1
        return self._box.submit(code)


class Late:
    """A sandbox whose first script on the last host ends only when it is released."""

    def __init__(self, box: Sandbox | Counted) -> None:
        self._box = box
        self._held: concurrent.futures.Future[ExecResult] | None = None
        self._released = threading.Event()
        self.is_stalled = False

    def submit(self, code: str) -> concurrent.futures.Future[ExecResult]:
        if self._held is not None or hosts.index() < hosts.count() - 1:
            return self._box.submit(code)
        self._held = concurrent.futures.Future()
        threading.Thread(target=self._run, args=(code,), daemon=True).start()
        return self._held

    def release_last(self, num_done: int) -> None:
        """Release the script when all other trajectories are done."""
        if num_done == ROLLOUTS - 1:
            self._released.set()

    def _run(self, code: str) -> None:
        assert self._held is not None
        # A stall fails the test, and does not hang it.
        self.is_stalled = not self._released.wait(PATIENCE)
        self._held.set_result(self._box.submit(code).result())


def steps() -> dict[str, Any]:
    """One step of supervised fine-tuning, then one GRPO update, on the mesh that is set."""
    model = nnx.jit(lambda key: qwen2.Qwen2(CONFIG, rngs=nnx.Rngs(key)))(jax.random.key(0))
    graphdef, params = nnx.split(model)
    mesh = jax.sharding.get_mesh()
    if not mesh.empty:
        params = meshes.device_put_global(params, meshes.param_shardings(mesh, params))
    tokenizer = tokenizers.train_byte_bpe(["print(1)"] * 3, 300)
    # Hosts whose rows have fewer tokens that count go through fewer chunks of the head.
    policy = Policy(CONFIG, graphdef, tokenizer.vocab_size, TrainConfig(logits_chunk=16))
    tx = optimizer.make_optimizer(optimizer.constant_schedule(1e-3), clip_norm=1.0)
    packed, rollouts = batches()
    tuned, values = sft.sft_step(
        train_state.create_state(params, tx), placement.shard_batch(packed), policy=policy, tx=tx
    )
    after_sft, loss = on_host(tuned.params), float(values["optim/loss"])
    reference = jax.tree.map(lambda leaf: leaf * 0.9, tuned.params)
    rows = grpo_step.compute_ref_logprobs(
        Weights(reference), placement.shard_batch(rollouts), policy=policy, temperature=1.0
    )
    total, _ = grpo_step.accumulate_gradients(
        grpo_step.zero_accumulator(tuned.params, LOSS),
        Weights(tuned.params),
        rows,
        policy=policy,
        temperature=1.0,
        settings=LOSS,
    )
    moved, norm = grpo_step.apply_step(tuned, total.gradients, total.sums.sequences, tx=tx)
    return {
        "sft": after_sft,
        "grpo": on_host(moved.params),
        # Adam divides by tiny numbers: its moments, linear in the gradients, say more.
        "moments": on_host(moved.opt_state[1][0].mu),
        "numbers": [np.float32(loss), np.float32(norm)],
    }


def batches() -> tuple[PackedBatch[np.ndarray], microbatching.Microbatch]:
    """Random rows for both trainers."""
    rng = np.random.default_rng(0)
    tokens_BT = rng.integers(0, 259, (8, 24)).astype(np.int32)
    mask_BT = rng.random((8, 24)) < np.array([0, 0, 1, 1, 0.3, 0.3, 0.6, 0.6])[:, None]
    segments_BT = 1 + (np.arange(24) >= 11).astype(np.int32) + np.zeros((8, 1), np.int32)
    positions_BT = np.where(segments_BT == 1, np.arange(24), np.arange(24) - 11)
    noted_BT = np.where(mask_BT, -5.0, 0.0).astype(np.float32)
    advantages_B = rng.normal(size=8).astype(np.float32)
    return (
        PackedBatch(tokens_BT, positions_BT, segments_BT, mask_BT),
        microbatching.Microbatch(tokens_BT, mask_BT, noted_BT, mask_BT, advantages_B),  # type: ignore[arg-type]  # host arrays
    )


def rollouts(box: Sandbox | Counted) -> tuple[list[Trajectory], list[Trajectory], bool]:
    """Trajectories with really executed code: to their ends, carried over to a step, or asked late.

    Also whether a late script held up the others.
    """
    world = World()
    runner = world.runner(MIXED, box, slots=8)  # type: ignore[arg-type]  # Counted submits too
    mesh = jax.sharding.get_mesh()
    if not mesh.empty:
        _, params = nnx.split(world.model(MIXED))
        params = meshes.device_put_global(params, meshes.param_shardings(mesh, params))
        runner.load(sampler_weights.from_trainer_params(params, SCRIPTED, mesh=mesh))
    late = Late(box)
    runner.sandbox = late  # type: ignore[assignment]  # it submits too
    whole = runner.run(ragged(ROLLOUTS), on_done=late.release_last)
    runner.sandbox = box  # type: ignore[assignment]
    first, partial = runner.run_groups(ragged(12), [], num_groups=5, step=0, max_staleness=1)
    second, _ = runner.run_groups([], partial, num_groups=7, step=1, max_staleness=1)
    asked = [6]

    def ask_again(group: Sequence[Trajectory]) -> list[Request]:
        """Ask another question for each wrong answer, in whatever order they come."""
        if group[0].correct or asked[0] == ROLLOUTS:
            return []
        asked[0] += 1
        return ragged(asked[0])[-1:]

    grown = runner.run_extended(ragged(6), ask_again)
    return whole, first + second + grown, late.is_stalled


def on_host(tree: Any) -> list[np.ndarray]:
    """Every leaf, from wherever its parts lie."""
    leaves = jax.tree.leaves(tree)
    mesh = jax.sharding.get_mesh()
    if not mesh.empty:
        everywhere = jax.sharding.NamedSharding(mesh, jax.P())
        leaves = jax.jit(lambda leaves: leaves, out_shardings=everywhere)(leaves)
    return jax.device_get(leaves)


def main(directory: pathlib.Path) -> None:
    """One host's part."""
    with hosts.distributed(), Sandbox(SandboxConfig(workers=1)) as box:
        counted = Counted(box)
        with jax.set_mesh(meshes.make_mesh(data=2, fsdp=2, tensor=2)):
            found = {"steps": steps(), "rollouts": rollouts(counted), "scripts": counted.scripts}
        (directory / f"{hosts.index()}.pickle").write_bytes(pickle.dumps(found))


if __name__ == "__main__":
    jax.config.update("jax_disable_most_optimizations", True)  # as in the test that compares
    main(pathlib.Path(sys.argv[1]))
