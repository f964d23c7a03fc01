"""The policy scores tokens as the sampler draws them, and is had from presets and checkpoints."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from r1ci_jax.config import DatasetConfig, Experiment, ModelConfig
from r1ci_jax.errors import UserError
from r1ci_jax.model import presets, qwen2
from r1ci_jax.model.hf import weights
from r1ci_jax.text.tokenizer import Tokenizer
from r1ci_jax.train import policy as policies
from r1ci_jax.train.policy import Params, Policy, Weights
from tests.train.tiny_training import tokenizer


def experiment(seed: int = 0, **source: str) -> Experiment:
    return Experiment(
        name="t",
        seed=seed,
        model=ModelConfig(**source),
        dataset=DatasetConfig(tasks=("toy_letters",)),
    )


@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_logprobs_are_over_the_tokenizers_ids_alone(
    tiny_policy: Policy, tiny_params: Params, temperature: float
) -> None:
    size = tokenizer().vocab_size
    assert size < tiny_policy.config.vocab_size
    tokens_BT = jax.random.randint(jax.random.key(1), (3, 9), 0, size)
    logprobs_BT, entropy_BT = tiny_policy.logprobs_and_entropy(
        Weights(tiny_params), tokens_BT, temperature=temperature
    )

    logits_BTV = nnx.merge(tiny_policy.graphdef, tiny_params)(tokens_BT)[:, :-1, :size]
    wanted_BTV = jax.nn.log_softmax(logits_BTV / temperature)
    wanted_BT = jnp.take_along_axis(wanted_BTV, tokens_BT[:, 1:, None], axis=-1)[..., 0]
    np.testing.assert_allclose(logprobs_BT, wanted_BT, atol=1e-5)
    np.testing.assert_allclose(entropy_BT, -(jnp.exp(wanted_BTV) * wanted_BTV).sum(-1), atol=1e-5)


@pytest.fixture
def tokenizer_dir(tiny_policy: Policy, tmp_path: Path) -> Path:
    tokenizer().save(tmp_path / "tokenizer")
    return tmp_path / "tokenizer"


def test_a_preset_is_initialised_by_the_seed(tokenizer_dir: Path) -> None:
    def leaves(seed: int) -> list[np.ndarray]:
        drawn = experiment(seed, preset="toy")
        params = policies.load_untrained(drawn, policies.load(drawn, tokenizer_dir).policy)
        return [np.asarray(leaf) for leaf in jax.tree.leaves(params)]

    first, again, other = leaves(1), leaves(1), leaves(2)
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(first, other, strict=True))


def test_a_checkpoint_decides_architecture_weights_and_tokenizer(
    tiny_policy: Policy, tiny_params: Params, tmp_path: Path
) -> None:
    model = nnx.merge(tiny_policy.graphdef, tiny_params)
    weights.save_pretrained(model, tmp_path / "hf")
    tokenizer().save(tmp_path / "hf")
    started = experiment(checkpoint=str(tmp_path / "hf"))
    loaded, loaded_tokenizer = policies.load(started, tmp_path / "none")
    params = policies.load_untrained(started, loaded)
    assert loaded.config.width == tiny_policy.config.width
    assert loaded_tokenizer.vocab_size == loaded.vocab_size == tokenizer().vocab_size
    for left, right in zip(jax.tree.leaves(params), jax.tree.leaves(tiny_params), strict=True):
        np.testing.assert_array_equal(left, right)


def test_a_checkpoint_of_another_architecture_than_told_is_refused(
    tiny_policy: Policy, tiny_params: Params, tmp_path: Path
) -> None:
    weights.save_pretrained(nnx.merge(tiny_policy.graphdef, tiny_params), tmp_path / "hf")
    tokenizer().save(tmp_path / "hf")
    told = experiment(checkpoint=str(tmp_path / "hf"), architecture="qwen2.5-3b-instruct")
    with pytest.raises(UserError, match=r"has vocab_size = \d+, model.architecture = qwen2.5-3b-i"):
        policies.load(told, tmp_path / "none")
    presets.require_architecture("toy", presets.get("toy"), "a toy")
    with pytest.raises(UserError, match=r"model.checkpoint is empty; name a checkpoint"):
        experiment(architecture="toy")


def test_a_tokenizer_larger_than_the_model_is_the_users_to_mend(
    tiny_policy: Policy, tmp_path: Path
) -> None:
    small = qwen2.Qwen2Config(
        vocab_size=260, width=8, layers=1, query_heads=1, kv_heads=1, head_dim=8, mlp_width=8
    )
    weights.save_pretrained(qwen2.Qwen2(small, rngs=nnx.Rngs(0)), tmp_path / "hf")
    tokenizer().save(tmp_path / "hf")
    with pytest.raises(UserError, match=r"has \d+ tokens, the model only 260 embeddings; choose"):
        policies.load(experiment(checkpoint=str(tmp_path / "hf")), tmp_path / "none")
    with pytest.raises(UserError, match="unknown model preset 'nope'; choose one of"):
        Tokenizer.save(tokenizer(), tmp_path / "tokenizer")
        policies.load(experiment(preset="nope"), tmp_path / "tokenizer")


def test_the_sampler_gets_the_same_numbers(tiny_policy: Policy, tiny_params: Params) -> None:
    held = tiny_policy.to_sampler_weights(Weights(tiny_params))
    assert len(held.layers) == tiny_policy.config.layers and held.lm_head_DV is None
    np.testing.assert_array_equal(held.layers[1].q_DNH, tiny_params["layers"]["q"][...][1])
