"""A policy that ends its message without an answer is asked once, and its next answer counts."""

import pytest

from r1ci_jax.rollout import agents
from r1ci_jax.rollout.trajectory import StopReason
from r1ci_jax.text import prompts
from tests.rollout.conftest import StandIn, World, prints
from tests.rollout.scripts import ANSWER, CODE, EOS, ONLY_ANSWER, ONLY_CODE, ONLY_EOS, request

CACHE = 400
"""Tokens of a trajectory: the request is long in this tokenizer. The same for all, which compile
once."""
LATE = {"\n": {"a": 0.5, "<<<": 0.5}, "a": EOS, **ANSWER}
"""Answers at once, or ends its message without an answer."""


@pytest.fixture(scope="module")
def world() -> World:
    return World()


def test_the_answer_after_the_request_counts(world: World) -> None:
    agent = agents.AnswerRequest(agents.CodeAgent())
    runner = world.runner(LATE, cache_length=CACHE)
    made = runner.run([request(number, agent=agent) for number in range(24)])
    texts = [world.tokenizer.decode(each.tokens) for each in made]
    requested = [text.count(prompts.ANSWER_REQUEST) for text in texts]
    assert {0, 1} == set(requested)
    late = [each for each, count in zip(made, requested, strict=True) if count]
    assert {each.stop for each in late} == {StopReason.ANSWER, StopReason.EOS}
    assert all((each.answer == "7") is (each.stop is StopReason.ANSWER) for each in made)
    assert {each.agent for each in made} == {"code_agent"}
    # Without the request, those that had no answer end there.
    plain = runner.run([request(number) for number in range(24)])
    assert [each.answer is None for each in plain] == [bool(count) for count in requested]


def test_one_that_never_answers_is_asked_once(world: World) -> None:
    agent = agents.AnswerRequest(agents.CodeAgent())
    (made,) = world.runner(ONLY_EOS, cache_length=CACHE).run([request(agent=agent)])
    text = world.tokenizer.decode(made.tokens)
    assert text.count(prompts.ANSWER_REQUEST) == 1 and made.answer is None
    assert made.stop is StopReason.EOS and sum(made.sampled) == 2


def test_who_answers_is_not_asked(world: World) -> None:
    runner = world.runner(ONLY_ANSWER, cache_length=CACHE)
    agent = agents.AnswerRequest(agents.CodeAgent())
    assert runner.run([request(agent=agent)])[0].tokens == runner.run([request()])[0].tokens


def test_words_alone_run_no_code_and_scripts_alone_are_not_asked(world: World) -> None:
    box = prints("ok!\n")
    runner = world.runner(ONLY_CODE, box, cache_length=CACHE)
    (text,) = runner.run([request(agent=agents.AnswerRequest(agents.AllText()))])
    assert box.codes == [] and text.code_calls == () and text.answer is None
    (code,) = runner.run([request(agent=agents.AnswerRequest(agents.AllCode()))])
    assert code.answer == "ok!" and len(box.codes) == 1
    silent = world.runner(ONLY_EOS, cache_length=CACHE).run(
        [request(agent=agents.AnswerRequest(agents.AllCode()))]
    )
    assert sum(silent[0].sampled) == 1


def test_a_message_that_ends_right_after_a_block_goes_on_with_the_output(world: World) -> None:
    """The block's last mark pauses the slot before the end of the message can be sampled."""
    script = {"\n": "```", **CODE, "`": EOS, "!\n": "<<<", **ANSWER}
    box: StandIn = prints("ok!\n")
    (made,) = world.runner(script, box, cache_length=CACHE).run([request()])
    assert len(made.code_calls) == 1 and made.answer == "7"
    text = world.tokenizer.decode(made.tokens)
    assert text.index("Code Execution Results:") < text.index("<<<7>>>")
    assert EOS not in text.partition("assistant\n")[2].partition("Code Execution")[0]


def turn(text: str, **changes: object) -> agents.ModelTurn:
    fields = {"code": None, "answer": None, "num_answers": 0, "messages": (), "guide": ""}
    fields |= {"num_guide_turns": 0, "is_guide": False, "guided_answer": None}
    return agents.ModelTurn(text=text, **{**fields, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize("agent", [agents.CodeAgent(), agents.AllText()])
def test_an_answer_in_a_box_counts_where_the_marks_are_missing(agent: agents.Agent) -> None:
    asked = agents.AnswerRequest(agent)
    boxed = turn(r"It is \boxed{6}, no, \boxed{7}.")
    assert asked.act(boxed) == agents.Finish(stop=StopReason.ANSWER, answer="7")
    assert asked.act(turn("It is 7.")) == agents.UserMessage(text=prompts.ANSWER_REQUEST)
    again = turn(r"\boxed{7}", messages=(prompts.ANSWER_REQUEST,))
    assert asked.act(again) == agents.Finish(stop=StopReason.ANSWER, answer="7")
    assert agents.CodeAgent().act(boxed) == agents.Finish(stop=StopReason.EOS, answer=None)


def test_codesteer_sends_a_boxed_answer_back_and_is_asked_for_the_checked_one() -> None:
    asked = agents.AnswerRequest(agents.CodeSteer())
    boxed, check = turn(r"\boxed{6}"), (prompts.CHECK_MESSAGE,)
    assert asked.act(boxed) == agents.UserMessage(text=prompts.CHECK_MESSAGE)
    checked = turn(r"\boxed{7}", messages=check)
    assert asked.act(checked) == agents.Finish(stop=StopReason.ANSWER, answer="7")
    unmarked = turn("Yes, the answer is 7.", num_answers=1, messages=check)
    assert asked.act(unmarked) == agents.UserMessage(text=prompts.ANSWER_REQUEST)
    again = turn("It is 7.", num_answers=1, messages=(*check, prompts.ANSWER_REQUEST))
    assert asked.act(again) == agents.Finish(stop=StopReason.EOS, answer=None)


def test_words_alone_keep_the_box_before_the_code_that_ends_them() -> None:
    told = turn("It is \\boxed{7}.\n```python\nprint(7)\n```", code="print(7)\n")
    found = agents.AnswerRequest(agents.AllText()).act(told)
    assert found == agents.Finish(stop=StopReason.ANSWER, answer="7")
    found = agents.AnswerRequest(agents.CodeAgent()).act(told)
    assert found == agents.RunCode(code="print(7)\n")


def test_without_a_request_a_box_counts_and_nobody_is_asked() -> None:
    silent = agents.AnswerRequest(agents.CodeAgent(), None)
    found = silent.act(turn(r"\boxed{7}"))
    assert found == agents.Finish(stop=StopReason.ANSWER, answer="7")
    assert silent.act(turn("It is 7.")) == agents.Finish(stop=StopReason.EOS, answer=None)


def test_marks_go_before_a_box() -> None:
    found = agents.AnswerRequest(agents.CodeAgent()).act(turn(r"\boxed{6} <<<7>>>", answer="7"))
    assert found == agents.Finish(stop=StopReason.ANSWER, answer="7")
