"""GRPO with a code interpreter in one file: a tiny model learns to compute instead of guessing.

    python experiments/minimal_grpo.py          # two minutes on two CPU cores

A model of half a million weights first imitates a teacher that guesses more often than it runs
code. Reinforcement learning then finds out what pays: it samples answers with a real sandboxed
Python in the loop, compares answers to the same question, and makes the better ones more likely.

The algorithm is here from top to bottom; curriculum and resumable runs are in r1ci_jax/pipeline.py.
Axes: B rows of a batch, T tokens of a row, V vocabulary, P prompts, R rollouts per prompt.
"""

import dataclasses
import functools
import itertools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import tyro
from flax import nnx

from r1ci_jax.config import DemonstrationConfig, SamplerConfig, SamplingParams, TurnLimits
from r1ci_jax.data import encoding
from r1ci_jax.data.scripted_teacher import write_demonstrations
from r1ci_jax.model import qwen2
from r1ci_jax.rollout import agents
from r1ci_jax.rollout.runner import Request, Runner
from r1ci_jax.rollout.trajectory import RolloutId, Trajectory
from r1ci_jax.sampling import stop_automaton
from r1ci_jax.sampling.engine import Engine
from r1ci_jax.sandbox import Sandbox, SandboxConfig
from r1ci_jax.tasks import registry
from r1ci_jax.tasks.base import Example
from r1ci_jax.text import protocol, tokenizer

Params = Any
ROW_LENGTH = 80  # tokens of a padded row: question, code, its output, answer


@dataclasses.dataclass(frozen=True)
class Settings:
    """The experiment's settings; each is a flag of the command line."""

    task: str = "toy_arithmetic"  # a task with a scripted teacher, see `r1ci tasks list`
    demonstrations: int = 1000  # demonstrations of the warm start
    sft_steps: int = 300  # steps of the warm start, 32 demonstrations each
    steps: int = 24  # steps of reinforcement learning
    prompts_per_step: int = 8  # questions per step, P
    rollouts_per_prompt: int = 8  # answers per question, R (the paper's group size G)
    lr: float = 4e-4  # learning rate of reinforcement learning
    clip: float = 0.2  # range ε of the probability ratio around 1
    kl_coef: float = 0.001  # weight β of the divergence from the warm-started model
    eval_questions: int = 64  # held-out questions
    seed: int = 0  # decides everything


# --- Questions -----------------------------------------------------------------------------------


def generate_questions(task: str, count: int, seed: int) -> list[Example]:
    """Generate `count` different questions."""
    questions: dict[str, Example] = {}
    for index in range(20 * count):
        example = registry.get(task).generate(index, seed, difficulty=1)
        questions.setdefault(example.question, example)
        if len(questions) == count:
            return list(questions.values())
    raise SystemExit(f"{task} has fewer than {count} questions; ask for fewer demonstrations")


# --- Model ---------------------------------------------------------------------------------------


def make_model(vocab_size: int, seed: int) -> qwen2.Qwen2:
    """Make a small Qwen2 with random weights."""
    config = qwen2.Qwen2Config(
        vocab_size=vocab_size, width=128, layers=2, query_heads=4, kv_heads=4, head_dim=32,
        mlp_width=384, rope_theta=10000.0, tied=True,
    )  # fmt: skip
    return nnx.jit(lambda: qwen2.Qwen2(config, rngs=nnx.Rngs(seed)))()


def token_logprobs(graphdef: nnx.GraphDef, params: Params, tokens_BT: jax.Array) -> jax.Array:
    """Compute the log-probability of every token but the first, [B, T-1]."""
    logprobs_BTV = jax.nn.log_softmax(nnx.merge(graphdef, params)(tokens_BT[:, :-1]))
    return jnp.take_along_axis(logprobs_BTV, tokens_BT[:, 1:, None], axis=-1)[..., 0]


def pad_rows(rows: Sequence[Sequence[Any] | np.ndarray], dtype: type) -> np.ndarray:
    """Pad rows with zeros to [B, T]."""
    return np.stack([np.pad(np.asarray(row, dtype), (0, ROW_LENGTH - len(row))) for row in rows])


# --- Warm start: imitate demonstrations ----------------------------------------------------------


@functools.partial(jax.jit, static_argnames=("graphdef", "optimizer"))
def sft_step(graphdef, optimizer, params, opt_state, tokens_BT, sampled_BT):
    """Take a step towards the teacher's tokens; the interpreter's are read, not learned."""

    def loss(params: Params) -> jax.Array:
        logprobs_BT = token_logprobs(graphdef, params, tokens_BT)
        return -jnp.mean(logprobs_BT, where=sampled_BT[:, 1:])

    updates, opt_state = optimizer.update(jax.grad(loss)(params), opt_state, params)
    return optax.apply_updates(params, updates), opt_state


def warm_start(graphdef, params: Params, rows: Sequence[encoding.Encoded], settings: Settings):
    """Fine-tune on demonstrations."""
    tokens_NT = pad_rows([row.tokens_T for row in rows], np.int32)
    sampled_NT = pad_rows([row.sampled_T for row in rows], np.bool_)
    schedule = optax.warmup_cosine_decay_schedule(0.0, 5e-3, 10, settings.sft_steps)
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(schedule, b2=0.98))
    opt_state, rng = optimizer.init(params), np.random.default_rng(settings.seed)
    for _ in range(settings.sft_steps):
        batch = rng.choice(len(rows), 32, replace=False)
        arrays = tokens_NT[batch], sampled_NT[batch]
        params, opt_state = sft_step(graphdef, optimizer, params, opt_state, *arrays)
    return params


# --- Rollouts: the model writes, the sandbox runs its code, the model reads on -------------------


def make_runner(config, tokens: tokenizer.Tokenizer, sandbox: Sandbox, seed: int) -> Runner:
    """Connect the sampler, which stops at the end of a code block, with the sandbox."""
    table = stop_automaton.token_table(protocol.stop_machine(), tokens.token_bytes())
    sampler = SamplerConfig(cache_length=ROW_LENGTH, chunk_steps=8, prefill_buckets=(16, 32))
    engine = Engine(config, sampler, table, stop_token_ids=tokens.stop_token_ids, seed=seed)
    limits = TurnLimits(max_code_calls=2, max_new_tokens=48, max_observation_tokens=32)
    return Runner(engine, sandbox, tokens, limits)


def rollout(runner: Runner, params, questions, repeats, step, temperature) -> list[Trajectory]:
    """Sample `repeats` trajectories per question."""
    runner.load(qwen2.decoder_weights(params, runner.engine.config))
    return runner.run(
        Request(
            example=question,
            agent=agents.CodeAgent(),
            # The id names the trajectory's random numbers.
            rollout_id=RolloutId(step * len(questions) + number, repeat),
            sampling=SamplingParams(temperature=temperature),
        )
        for number, question in enumerate(questions)
        for repeat in range(repeats)
    )


# --- Reward, advantage, loss ---------------------------------------------------------------------


def reward(trajectory: Trajectory) -> float:
    """Give 1 for a correct answer and 0 otherwise."""
    return float(trajectory.correct)


def group_advantages(rewards_PR: np.ndarray) -> np.ndarray:
    """Compare each answer with the other answers to its question."""
    std_P1 = rewards_PR.std(axis=1, keepdims=True)
    return (rewards_PR - rewards_PR.mean(axis=1, keepdims=True)) / (std_P1 + 1e-6)


def grpo_loss(logprobs_BT, old_logprobs_BT, ref_logprobs_BT, advantages_B1, sampled_BT, settings):
    """Average the clipped objective over each row's sampled tokens, then over rows."""
    ratio_BT = jnp.exp(logprobs_BT - old_logprobs_BT)
    clipped_BT = jnp.clip(ratio_BT, 1 - settings.clip, 1 + settings.clip)
    objective_BT = jnp.minimum(ratio_BT * advantages_B1, clipped_BT * advantages_B1)
    diff_BT = ref_logprobs_BT - logprobs_BT
    kl_BT = jnp.exp(diff_BT) - diff_BT - 1  # the k3 estimate: unbiased, never negative
    loss_BT = settings.kl_coef * kl_BT - objective_BT
    return jnp.mean(jnp.mean(loss_BT, axis=1, where=sampled_BT))


@functools.partial(jax.jit, static_argnames=("graphdef", "optimizer", "settings"))
def grpo_step(graphdef, optimizer, params, opt_state, reference, batch, settings):
    """Take one optimizer step; only tokens that the model sampled carry loss."""
    tokens_BT, sampled_BT, old_logprobs_BT, advantages_B = batch
    ref_logprobs_BT = token_logprobs(graphdef, reference, tokens_BT)
    fixed = old_logprobs_BT[:, 1:], ref_logprobs_BT, advantages_B[:, None], sampled_BT[:, 1:]

    def loss(params: Params) -> jax.Array:
        return grpo_loss(token_logprobs(graphdef, params, tokens_BT), *fixed, settings)

    updates, opt_state = optimizer.update(jax.grad(loss)(params), opt_state, params)
    return optax.apply_updates(params, updates), opt_state


# --- The experiment ------------------------------------------------------------------------------


def main(settings: Settings, sandbox: Sandbox) -> tuple[list[float], float, float]:
    """Return the mean reward of each step, and held-out accuracy before and after all steps."""
    # Questions to evaluate on, to demonstrate, and for reinforcement.
    P, R = settings.prompts_per_step, settings.rollouts_per_prompt
    first, second = settings.eval_questions, settings.eval_questions + settings.demonstrations
    questions = generate_questions(settings.task, second + settings.steps * P, settings.seed)

    # The teacher answers three questions of five from memory, and computes the others.
    other = dict.fromkeys(("all_text", "all_code", "codesteer", "repair", "check"), 0.0)
    mix = DemonstrationConfig(code=0.4, direct=0.6, **other)
    shown = write_demonstrations(questions[first:second], sandbox, seed=settings.seed, mix=mix)
    tokens = tokenizer.train_byte_bpe(encoding.iterate_texts(shown), 340)
    rows = encoding.encode_all(shown, tokens, sequence_length=ROW_LENGTH)

    # Warm start.
    model = make_model(tokens.vocab_size, settings.seed)
    graphdef, params = nnx.split(model)
    params = reference = warm_start(graphdef, params, rows, settings)
    runner = make_runner(model.config, tokens, sandbox, settings.seed)

    def accuracy(params: Params) -> float:
        trajectories = rollout(runner, params, questions[:first], 1, 0, temperature=0.0)
        return float(np.mean([reward(each) for each in trajectories]))

    before, rewards = accuracy(params), []
    print(f"held-out accuracy after the warm start: {before:.0%}")

    # Reinforcement learning.
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(settings.lr))
    opt_state = optimizer.init(params)
    for step, prompts in enumerate(itertools.batched(questions[second:], P)):
        # Sample R answers to each of P questions.
        trajectories = rollout(runner, params, prompts, R, step, temperature=1.0)
        rewards_PR = np.array([reward(each) for each in trajectories]).reshape(-1, R)
        # Train on them.
        batch = (
            pad_rows([each.tokens for each in trajectories], np.int32),
            pad_rows([each.sampled for each in trajectories], np.bool_),
            pad_rows([each.logprobs for each in trajectories], np.float32),
            group_advantages(rewards_PR).reshape(-1),
        )
        learner = params, opt_state, reference
        params, opt_state = grpo_step(graphdef, optimizer, *learner, batch, settings)
        rewards.append(float(rewards_PR.mean()))
        uses_code = np.mean([bool(each.code_calls) for each in trajectories])
        print(f"step {step + 1:3}   reward {rewards[-1]:.2f}   uses code {uses_code:4.0%}")

    after = accuracy(params)
    print(f"held-out accuracy: {before:.0%} before, {after:.0%} after")
    return rewards, before, after


if __name__ == "__main__":
    with Sandbox(SandboxConfig()) as sandbox:
        main(tyro.cli(Settings), sandbox)
