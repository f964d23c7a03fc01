"""A policy that follows a script, so that every way a trajectory can go is really sampled.

It is a real Qwen2 whose embedding is one-hot, so the head can say what follows each token; its
random attention layers still shift every probability. Tokens that only pad the embedding would be
its favourites if they could be sampled. A script maps a token to its possible successors.
"""

import concurrent.futures
import dataclasses
from collections.abc import Callable, Iterator, Mapping

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from r1ci_jax.config import SamplerConfig, TurnLimits
from r1ci_jax.model import qwen2
from r1ci_jax.rollout.runner import Runner
from r1ci_jax.sampling import stop_automaton
from r1ci_jax.sampling.engine import Engine
from r1ci_jax.sandbox import ExecResult, Sandbox, SandboxConfig, Status
from r1ci_jax.text import prompts, protocol, tokenizer
from r1ci_jax.text.tokenizer import Tokenizer

type Script = Mapping[str, Mapping[str, float] | str]
"""Probabilities of the tokens that follow a token; one alone may stand for itself."""

ROWS = 400
"""Embedding rows: more than the tokenizer has ids."""
CONFIG = qwen2.Qwen2Config(
    vocab_size=ROWS,
    width=ROWS,
    layers=2,
    query_heads=4,
    kv_heads=2,
    head_dim=16,
    mlp_width=64,
    rope_theta=1e4,
)
SAMPLER = SamplerConfig(
    slots=4, cache_length=160, chunk_steps=7, prefill_buckets=(8, 32), prefill_rows=4
)
LIMITS = TurnLimits(max_code_calls=3, max_new_tokens=60, max_observation_tokens=40)
CORPUS = (
    "user\nCompute 3+4.",
    "assistant\n",
    "```python \nprint('ok!')\n```\n",
    "print('no!')\n",
    "\nCode Execution Results:\nok!\n",
    "\n[... output shortened ...]\n",
    "<<<7>>>",
    "\nAnswer without code.",
    "\nAnswer with code.",
    "Check the answer with code.",
)


@dataclasses.dataclass
class StandIn:
    """In the sandbox's place where the sandbox is not what is tested."""

    answer: Callable[[str], ExecResult]
    codes: list[str] = dataclasses.field(default_factory=list)

    def submit(self, code: str) -> concurrent.futures.Future[ExecResult]:
        self.codes.append(code)
        future: concurrent.futures.Future[ExecResult] = concurrent.futures.Future()
        try:
            future.set_result(self.answer(code))
        except RuntimeError as error:
            future.set_exception(error)
        return future


def prints(stdout: str, status: Status = Status.OK) -> StandIn:
    return StandIn(lambda code: ExecResult(status=status, stdout=stdout, stderr="", exit_code=0))


class World:
    """Makes runners that share a tokenizer and, by their shapes, compiled programs."""

    def __init__(self) -> None:
        self.tokenizer: Tokenizer = tokenizer.train_byte_bpe(CORPUS * 20, ROWS - 10)
        assert self.tokenizer.vocab_size < ROWS
        self._table = stop_automaton.token_table(
            protocol.stop_machine(), self.tokenizer.token_bytes()
        )
        self._id_of = {data: index for index, data in enumerate(self.tokenizer.token_bytes())}
        self._base = nnx.jit(lambda: qwen2.Qwen2(CONFIG, rngs=nnx.Rngs(0)))()
        self._forward = nnx.jit(lambda model, tokens_BT: model(tokens_BT))

    def has_token(self, text: str) -> bool:
        """True if a script can name this token."""
        return text.encode() in self._id_of

    def model(self, script: Script) -> qwen2.Qwen2:
        """A policy that follows the script, give or take what attention adds."""
        head_DV = np.zeros((ROWS, ROWS), np.float32)
        for token, successors in script.items():
            chances = {successors: 1.0} if isinstance(successors, str) else successors
            for successor, chance in chances.items():
                row, column = self._id_of[token.encode()], self._id_of[successor.encode()]
                head_DV[row, column] = 20 + np.log(chance)
        head_DV[:, self.tokenizer.vocab_size :] = 50.0
        model = nnx.clone(self._base)
        assert model.lm_head is not None
        model.embed[...] = jnp.asarray(40.0 * np.eye(ROWS, dtype=np.float32))
        # The norm shrinks the one-hot entry to about 18.5; the layers fill the others with noise.
        model.lm_head[...] = jnp.asarray(head_DV / 18.5)
        return model

    def runner(
        self,
        script: Script,
        sandbox: Sandbox | StandIn | None = None,
        *,
        limits: TurnLimits = LIMITS,
        seed: int = 0,
        tokenizer: Tokenizer | None = None,
        instructions: Mapping[str, str] = prompts.NO_INSTRUCTIONS,
        **sampler: int,
    ) -> Runner:
        """A runner whose policy follows the script; keywords change the sampler's settings."""
        tokenizer = tokenizer or self.tokenizer
        engine = Engine(
            CONFIG,
            dataclasses.replace(SAMPLER, **sampler),
            self._table,
            stop_token_ids=tokenizer.stop_token_ids,
            seed=seed,
        )
        engine.load(qwen2.decoder_weights(self.model(script), CONFIG))
        box = prints("ok!\n") if sandbox is None else sandbox
        return Runner(engine, box, tokenizer, limits, instructions=instructions)

    def logprobs(self, script: Script, tokens: tuple[int, ...], temperature: float) -> np.ndarray:
        """Log-probability of every token but the first by the full forward pass."""
        padded = np.zeros((1, SAMPLER.cache_length), np.int32)
        padded[0, : len(tokens)] = tokens
        logits = self._forward(self.model(script), jnp.asarray(padded))
        logits = np.asarray(logits)[0, : len(tokens) - 1, : self.tokenizer.vocab_size]
        logprobs = np.asarray(jax.nn.log_softmax(logits / temperature, axis=-1))
        return logprobs[np.arange(len(tokens) - 1), np.asarray(tokens[1:])]


@pytest.fixture(scope="session")
def world() -> World:
    return World()


@pytest.fixture(scope="session")
def stand_in() -> type[StandIn]:
    return StandIn


@pytest.fixture(scope="session")
def printing() -> Callable[..., StandIn]:
    """Makes a stand-in for the sandbox that prints the same for any script."""
    return prints


@pytest.fixture(scope="session")
def box() -> Iterator[Sandbox]:
    with Sandbox(SandboxConfig(workers=2)) as sandbox:
        yield sandbox
