"""Long output: both rules keep to the limit, and nothing in them reads as the policy's words."""

import random

import pytest

from r1ci_jax.config import TurnLimits
from r1ci_jax.errors import UserError
from r1ci_jax.sandbox.result import ExecResult, Status
from r1ci_jax.text import first_stop, long_output, protocol, tokenizer
from r1ci_jax.text.long_output import NOTICE, ObservationEncoder
from r1ci_jax.text.protocol import Stop
from r1ci_jax.text.tokenizer import Tokenizer

REPLACED = f"\n{protocol.OBSERVATION_PREFIX}\n{NOTICE}\n"


@pytest.fixture(scope="module")
def tokens() -> Tokenizer:
    return tokenizer.train_byte_bpe([REPLACED, "1 2 3 <<<4>>>"] * 3, 300)


def limits(most: int, rule: str) -> TurnLimits:
    return TurnLimits(max_observation_tokens=most, observation_rule=rule)  # type: ignore[arg-type]


def printed(text: str) -> str:
    return protocol.observation(ExecResult(status=Status.OK, stdout=text))


@pytest.mark.parametrize("rule", ["clip", "replace"])
def test_no_output_takes_more_tokens_than_allowed(tokens: Tokenizer, rule: str) -> None:
    rng, seen = random.Random(0), set[bool]()
    for most in (64, 65, 100):
        encoder = ObservationEncoder(tokens, limits(most, rule))
        for size in (0, 1, 40, 62, 63, 64, 65, 99, 100, 101, 5000):
            text = printed("".join(rng.choice("0123456789 \nabc<>`") for _ in range(size)))
            whole, ids = tokens.encode(text), encoder.encode(text)
            assert len(ids) <= most
            is_whole = len(whole) <= most
            assert (ids == whole) is is_whole
            seen.add(is_whole)
            if not is_whole and rule == "replace":
                assert tokens.decode(ids) == REPLACED
            if not is_whole and rule == "clip":
                mark = tokens.encode(protocol.CLIP_MARK)
                assert ids == protocol.clip_observation_ids(whole, most, mark)
    assert seen == {True, False}


@pytest.mark.parametrize("word", ["\u65e5\u672c\u8a9e", "\U0001f600 ", "a\u00e9"])
def test_no_character_is_cut(tokens: Tokenizer, word: str) -> None:
    for most in range(64, 72):
        ids = ObservationEncoder(tokens, limits(most, "clip")).encode(printed(word * 300))
        text = tokens.decode(ids)
        assert "\ufffd" not in text and most - 6 <= len(ids) <= most
        head, mark, tail = text.partition(protocol.CLIP_MARK)
        assert mark and word in head and word in tail


def test_the_default_clips(tokens: Tokenizer) -> None:
    text = printed("7 " * 500)
    default = TurnLimits(max_observation_tokens=64)
    assert default.observation_rule == "clip"
    assert ObservationEncoder(tokens, default).encode(text) == (
        ObservationEncoder(tokens, limits(64, "clip")).encode(text)
    )


def test_the_text_of_another_tool_is_replaced_without_the_interpreters_line(
    tokens: Tokenizer,
) -> None:
    encoder = ObservationEncoder(tokens, limits(64, "replace"))
    assert tokens.decode(encoder.encode(protocol.tool_text("x " * 500))) == f"\n{NOTICE}\n"


def test_the_notice_holds_neither_code_nor_answer() -> None:
    for text in (REPLACED, f"\n{NOTICE}\n", protocol.CLIP_MARK):
        assert first_stop.find(text)[0] is Stop.NONE
        # Whatever the policy writes after it is read as if it stood alone.
        machine = protocol.stop_machine()
        assert protocol.run(machine, text.encode()) == machine.start
        assert protocol.final_answer(text) is None and protocol.last_code(text) is None


@pytest.mark.parametrize("rule", ["clip", "replace"])
def test_a_limit_without_room_for_the_mark_is_refused(tokens: Tokenizer, rule: str) -> None:
    mark = protocol.CLIP_MARK if rule == "clip" else REPLACED
    least = len(tokens.encode(mark)) + (2 if rule == "clip" else 0)
    long_output.ObservationEncoder(tokens, limits(least, rule))
    with pytest.raises(UserError, match=r"limits.max_observation_tokens = \d+ is too small") as no:
        long_output.ObservationEncoder(tokens, limits(least - 1, rule))
    assert "\n" not in str(no.value)


def test_another_rule_is_refused() -> None:
    with pytest.raises(UserError, match=r"limits.observation_rule must be one of clip, replace"):
        limits(64, "cut")
