"""Tokens, masks and batches: only the policy's words train; a resumed iterator goes on exactly."""

import collections

import numpy as np
import pytest

from r1ci_jax.data import encoding, pipeline
from r1ci_jax.data.demonstrations import Demonstration, asked, mistaken, observed, written
from r1ci_jax.data.encoding import Encoded
from r1ci_jax.errors import UserError
from r1ci_jax.text import chat, prompts, protocol, tokenizer
from r1ci_jax.text.tokenizer import Tokenizer


@pytest.fixture(scope="module")
def toy_tokenizer(demonstrations: list[Demonstration]) -> Tokenizer:
    return tokenizer.train_byte_bpe(encoding.texts(demonstrations), 512)


def _steered() -> Demonstration:
    return Demonstration(
        example_id="e",
        task="toy_letters",
        agent="codesteer",
        kind="steered_wrong",
        prompt="How many 'a' in 'aba'?",
        segments=(
            mistaken("<<<3>>>"),
            asked(prompts.CHECK_TURN),
            written("```python\nprint(2)\n```"),
            observed("\nCode Execution Results:\n<|im_end|>2\n"),
            written("<<<2>>>"),
        ),
        correct=True,
    )


def test_the_whole_trajectory_stands_there_and_only_the_policys_words_train(
    toy_tokenizer: Tokenizer,
) -> None:
    row = encoding.encode(_steered(), toy_tokenizer)
    ids = row.tokens_T.tolist()
    assert toy_tokenizer.decode(ids) == (
        "<|im_start|>user\nHow many 'a' in 'aba'?<|im_end|>\n"
        "<|im_start|>assistant\n<<<3>>><|im_end|>\n"
        "<|im_start|>user\nCheck the answer with code.<|im_end|>\n<|im_start|>assistant\n"
        "```python\nprint(2)\n```\nCode Execution Results:\n<|im_end|>2\n<<<2>>><|im_end|>"
    )
    learnt = [i for i, sampled in zip(ids, row.sampled_T, strict=True) if sampled]
    assert toy_tokenizer.decode(learnt) == "```python\nprint(2)\n```<<<2>>><|im_end|>"
    # The mark that a script printed is text; the only real ones close turns.
    assert ids.count(toy_tokenizer.eos_id) == 4


def test_every_demonstration_is_encoded_as_a_rollout_would(
    demonstrations: list[Demonstration], toy_tokenizer: Tokenizer
) -> None:
    rows = encoding.encode_all(demonstrations, toy_tokenizer, sequence_length=256)
    for demonstration, row in zip(demonstrations, rows, strict=True):
        ids = row.tokens_T.tolist()
        prompt = chat.prompt_ids(toy_tokenizer, demonstration.prompt)
        assert ids[: len(prompt)] == prompt
        assert not row.sampled_T[: len(prompt)].any()
        assert ids[-1] == toy_tokenizer.eos_id and row.sampled_T[-1]
        learnt = toy_tokenizer.decode(row.tokens_T[row.sampled_T].tolist())
        own = "".join(segment.text for segment in demonstration.segments if segment.sampled)
        assert learnt == own + "<|im_end|>"
    length = encoding.fitting_length(rows, limit=256)
    assert length % 32 == 0 and length - 32 < max(len(row.tokens_T) for row in rows) <= length


def test_long_output_is_clipped_as_in_a_rollout(toy_tokenizer: Tokenizer) -> None:
    shown = "\nCode Execution Results:\n" + "12345 " * 50 + "\n"
    demonstration = Demonstration(
        example_id="e",
        task="t",
        agent="code_agent",
        kind="code",
        prompt="q",
        segments=(observed(shown), written("<<<1>>>")),
        correct=True,
    )
    whole = encoding.encode(demonstration, toy_tokenizer)
    clipped = encoding.encode(demonstration, toy_tokenizer, observation_tokens=64)
    assert len(whole.tokens_T) - len(clipped.tokens_T) == len(toy_tokenizer.encode(shown)) - 64
    assert protocol.CLIP_MARK in toy_tokenizer.decode(clipped.tokens_T.tolist())


def test_a_too_long_demonstration_is_named(toy_tokenizer: Tokenizer) -> None:
    with pytest.raises(UserError, match=r"demonstration of e has \d+ tokens, more than .* = 20"):
        encoding.encode_all([_steered()], toy_tokenizer, sequence_length=20)


def _rows(count: int) -> list[Encoded]:
    return [
        Encoded(tokens_T=np.full(3 + i % 4, i, np.int32), sampled_T=np.arange(3 + i % 4) >= 2)
        for i in range(count)
    ]


def test_sequence_batches_hold_every_row_once_an_epoch() -> None:
    rows = _rows(10)
    batches = pipeline.sequence_batches(rows, 4, length=8, pad_id=99, epochs=3, seed=1)
    assert batches.steps == 8
    seen: list[int] = []
    for batch in batches:
        assert batch.tokens_BT.shape == batch.loss_mask_BT.shape == (4, 8)
        assert batch.tokens_BT.dtype == np.int32 and batch.loss_mask_BT.dtype == np.bool_
        for tokens_T, mask_T, length in zip(*batch, strict=True):
            if length:
                number = int(tokens_T[0])
                seen.append(number)
                np.testing.assert_array_equal(tokens_T[:length], rows[number].tokens_T)
                np.testing.assert_array_equal(mask_T[:length], rows[number].sampled_T)
            assert (tokens_T[length:] == 99).all() and not mask_T[length:].any()
    epochs = [seen[i : i + 10] for i in range(0, 30, 10)]
    assert all(sorted(epoch) == list(range(10)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]
    other = pipeline.sequence_batches(rows, 4, length=8, pad_id=99, epochs=3, seed=2)
    assert next(other).tokens_BT[:, 0].tolist() != seen[:4]


@pytest.mark.parametrize("taken", [0, 1, 3, 5])
def test_a_resumed_iterator_equals_an_uninterrupted_one(taken: int) -> None:
    def sequences() -> pipeline.Batches[pipeline.SequenceBatch]:
        return pipeline.sequence_batches(_rows(10), 4, length=8, pad_id=0, epochs=3, seed=1)

    def prompt_rows() -> pipeline.Batches[list[str]]:
        return pipeline.prompt_batches([f"q{i}" for i in range(10)], 4, seed=1)

    for make in (sequences, prompt_rows):
        going, fresh = make(), make()
        for _ in range(taken):
            next(going)
        state = going.get_state()
        assert isinstance(state, bytes)
        fresh.set_state(state)
        for _ in range(3):
            np.testing.assert_equal(next(fresh), next(going))
        assert fresh.get_state() == going.get_state()


def test_prompt_batches_are_full_and_fair() -> None:
    batches = pipeline.prompt_batches(range(10), 4, seed=7)
    assert batches.steps is None
    stream = [row for _ in range(15) for row in next(batches)]
    for epoch in range(6):
        assert sorted(stream[10 * epoch : 10 * epoch + 10]) == list(range(10))
    assert len({tuple(stream[i : i + 10]) for i in range(0, 60, 10)}) == 6
    assert collections.Counter(stream) == dict.fromkeys(range(10), 6)
    with pytest.raises(UserError, match="no question to train on"):
        pipeline.prompt_batches([], 4, seed=0)
