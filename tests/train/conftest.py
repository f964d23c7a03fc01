"""A policy so small that every law about training can be tried on it."""

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import pytest
from flax import nnx

from r1ci_jax.model import qwen2
from r1ci_jax.sandbox import Limits, Sandbox, SandboxConfig
from r1ci_jax.train.policy import Params, Policy
from tests.train.tiny_training import RecordingRunner, make_recording_runner, tokenizer

CONFIG = qwen2.Qwen2Config(
    vocab_size=320,
    width=32,
    layers=2,
    query_heads=2,
    kv_heads=2,
    head_dim=16,
    mlp_width=64,
    tied=True,
)


@pytest.fixture(scope="session")
def tiny_policy() -> Policy:
    """Fewer tokens (about 300) than embeddings (320), as in every published checkpoint."""
    graphdef, _ = nnx.split(nnx.eval_shape(lambda: qwen2.Qwen2(CONFIG, rngs=nnx.Rngs(0))))
    return Policy(CONFIG, graphdef, tokenizer().vocab_size)


@pytest.fixture(scope="session")
def first_params() -> Params:
    make = nnx.jit(lambda key: qwen2.Qwen2(CONFIG, rngs=nnx.Rngs(key)))
    return nnx.split(make(jax.random.key(0)))[1]


@pytest.fixture
def tiny_params(first_params: Params) -> Params:
    """A copy for every test: trainers use their parameters up."""
    return jax.tree.map(jnp.copy, first_params)


@pytest.fixture(scope="session")
def box() -> Iterator[Sandbox]:
    with Sandbox(SandboxConfig(limits=Limits(cpu_seconds=2.0), workers=1)) as sandbox:
        yield sandbox


@pytest.fixture
def runner(tiny_policy: Policy, box: Sandbox) -> RecordingRunner:
    return make_recording_runner(tiny_policy, box)
