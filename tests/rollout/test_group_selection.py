"""Which groups and trajectories a step trains on: laws of refill, resampling and masks."""

import collections
import dataclasses
import random

import pytest

from r1ci_jax.errors import UserError
from r1ci_jax.grpo_config import SignalConfig
from r1ci_jax.rollout import group_selection
from r1ci_jax.rollout.trajectory import CodeCall, RolloutId, StopReason, Trajectory
from r1ci_jax.sandbox import ExecResult, Status

ALL = SignalConfig()
FAULT = StopReason.SANDBOX_FAULT


def make(index: int, *, correct: bool = False, calls: str = "", group: int = 0, **changes):
    """A trajectory; `calls` has an x for each failed code call and a letter o for each other."""
    base = Trajectory(
        example_id="q",
        task="toy_letters",
        question="How many?",
        agent="code_agent",
        rollout_id=RolloutId(group, index),
        tokens=(1, 2, 3),
        sampled=(False, True, True),
        logprobs=(0.0, -0.5, -0.1),
        code_calls=tuple(
            CodeCall(
                code="",
                result=ExecResult(status=Status.EXCEPTION if each == "x" else Status.OK),
            )
            for each in calls
        ),
        stop=StopReason.ANSWER,
        answer="7",
        correct=correct,
        reward=float(correct),
        keeps_format=True,
        num_void_turns=0,
    )
    return dataclasses.replace(base, **changes)


# --- refill ---


def in_rounds(signal: list[bool], num_groups: int, rounds: int) -> int:
    """Ask round after round: the groups that the definition of refill asks for."""
    begin, end = 0, num_groups
    for _ in range(rounds):
        begin, end = end, end + signal[begin:end].count(False)
    return end


@pytest.mark.parametrize("chance", [0.0, 0.2, 0.6, 1.0])
def test_groups_known_in_any_order_give_those_of_whole_rounds(chance: float) -> None:
    draw = random.Random(7)
    for _ in range(200):
        num_groups, rounds = draw.randrange(1, 7), draw.randrange(5)
        signal = [draw.random() < chance for _ in range(num_groups * (1 + rounds))]
        wanted = in_rounds(signal, num_groups, rounds)
        known: dict[int, bool] = {}
        asked = num_groups
        while unknown := [place for place in range(asked) if place not in known]:
            place = draw.choice(unknown)
            known[place] = signal[place]
            total = group_selection.groups_to_ask(known, num_groups, rounds)[-1]
            assert asked <= total <= wanted, "a group was begun too early, or taken back"
            asked = total
        assert asked == wanted <= num_groups * (1 + rounds)
        # What is left with signal is never more than what was wanted.
        assert signal[:asked].count(True) <= num_groups


def test_signal_is_about_right_and_wrong_and_not_about_format() -> None:
    wrong = [make(0, reward=0.1), make(1, reward=-0.1), make(2, reward=-0.2)]
    assert not group_selection.has_signal(wrong, ALL)
    right = [make(index, correct=True, reward=1.1 - index) for index in range(3)]
    assert not group_selection.has_signal(right, ALL)
    assert group_selection.has_signal([*wrong, right[0]], ALL)
    # What the sandbox lost neither makes signal nor takes it away.
    assert not group_selection.has_signal([*wrong, make(3, correct=True, stop=FAULT)], ALL)
    assert group_selection.has_signal([wrong[0], right[1], make(2, stop=FAULT)], ALL)


@pytest.mark.parametrize(("in_baseline", "expected"), [(True, True), (False, False)])
def test_a_masked_answer_gives_signal_where_it_counts(in_baseline: bool, expected: bool) -> None:
    config = SignalConfig(mask_cut_off=True, masked_in_baseline=in_baseline)
    group = [make(0, correct=True), make(1, correct=True), make(2, stop=StopReason.MAX_TOKENS)]
    selected = group_selection.select(group, 3, config, seed=0)
    assert [each.is_masked for each in selected] == [False, False, True]
    assert group_selection.has_signal(selected, config) is expected
    # A group whose members are all masked has nothing to train.
    masked = [dataclasses.replace(each, is_masked=True) for each in group]
    assert not group_selection.has_signal(masked, config)


# --- masks ---


@pytest.mark.parametrize(
    ("stop", "num_void_turns", "void", "cut"),
    [
        (StopReason.ANSWER, 0, False, False),
        (StopReason.EOS, 1, True, False),
        (StopReason.MAX_TOKENS, 1, True, True),
        (StopReason.MAX_TURN_TOKENS, 1, True, True),
        (StopReason.CONTEXT_FULL, 0, False, True),
        (StopReason.CONTEXT_FULL, 1, True, True),
        (StopReason.MAX_CODE_CALLS, 0, False, True),
        (StopReason.MAX_TURNS, 0, False, True),
        (StopReason.WALL_TIME, 1, True, True),
        (StopReason.ANSWER, 1, True, False),
    ],
)
def test_masks_by_hand(stop: StopReason, num_void_turns: int, void: bool, cut: bool) -> None:
    group = [make(0, stop=stop, num_void_turns=num_void_turns)]
    for mask_void_turns in (False, True):
        for mask_cut_off in (False, True):
            config = SignalConfig(mask_void_turns=mask_void_turns, mask_cut_off=mask_cut_off)
            (found,) = group_selection.select(group, 1, config, seed=0)
            assert found.is_masked == ((void and mask_void_turns) or (cut and mask_cut_off))
            assert found == dataclasses.replace(group[0], is_masked=found.is_masked)


def test_void_turns_that_were_not_counted_are_not_guessed() -> None:
    old = [make(0, num_void_turns=None)]
    assert group_selection.select(old, 1, ALL, seed=0) == old
    with pytest.raises(UserError, match=r"earlier version's.*dump rollouts again"):
        group_selection.select(old, 1, SignalConfig(mask_void_turns=True), seed=0)


# --- GRPO-RoC ---


@pytest.mark.parametrize(
    ("correct", "wrong", "lost", "kept"),
    [
        (6, 4, 0, (3, 2, 0)),
        (5, 5, 0, (2, 3, 0)),  # 2.5 of each: the wrong ones are rounded up
        (9, 1, 0, (4, 1, 0)),  # half of one is one
        (1, 9, 0, (1, 4, 0)),  # as many of each kind as there must be for a comparison
        (10, 0, 0, (5, 0, 0)),
        (0, 10, 0, (0, 5, 0)),
        (4, 2, 4, (3, 2, 0)),  # 5 x 2 / 6 = 1.7
        (2, 1, 7, (2, 1, 2)),
        (0, 0, 10, (0, 0, 5)),
    ],
)
def test_half_of_each_kind_is_kept(correct: int, wrong: int, lost: int, kept) -> None:
    kinds = ["correct"] * correct + ["wrong"] * wrong + ["lost"] * lost
    for seed in range(20):
        random.Random(seed).shuffle(kinds)
        group = [
            make(
                index,
                correct=kind == "correct",
                stop=FAULT if kind == "lost" else StopReason.ANSWER,
            )
            for index, kind in enumerate(kinds)
        ]
        found = group_selection.resample(group, 5, seed=seed)
        assert found == group_selection.resample(group, 5, seed=seed)
        assert [each.rollout_id for each in found] == sorted({each.rollout_id for each in found})
        counts = collections.Counter(kinds[each.rollout_id.sample_index] for each in found)
        assert (counts["correct"], counts["wrong"], counts["lost"]) == kept


def shares(*calls: str, draws: int = 3000) -> list[float]:
    """How often each correct trajectory is the one that is kept of all correct ones."""
    counts = collections.Counter[int]()
    for number in range(draws):
        right = [
            make(index, correct=True, calls=each, group=number) for index, each in enumerate(calls)
        ]
        (found,) = group_selection.resample(right, 1, seed=3)
        counts[found.rollout_id.sample_index] += 1
    return [counts[index] / draws for index in range(len(calls))]


def test_correct_ones_are_drawn_by_the_inverse_of_their_failed_calls() -> None:
    # 1 / e is 1, 2 and 4: 1/7, 2/7 and 4/7 of the draws.
    assert shares("x", "xo", "xooo") == pytest.approx([1 / 7, 2 / 7, 4 / 7], abs=0.03)
    # Without a failed call, a trajectory goes before all others.
    assert shares("x", "o", "oo") == pytest.approx([0.0, 0.5, 0.5], abs=0.03)


def test_a_trajectory_without_calls_is_neither_preferred_nor_passed_over() -> None:
    assert shares("xo", "") == pytest.approx([0.5, 0.5], abs=0.03)
    assert shares("o", "") == pytest.approx([0.5, 0.5], abs=0.03)
    # Errors 1 and 1/2 have the mean 3/4: weights 1, 2 and 4/3.
    assert shares("x", "xo", "") == pytest.approx([3 / 13, 6 / 13, 4 / 13], abs=0.03)
    assert shares("", "") == pytest.approx([0.5, 0.5], abs=0.03)


def test_a_broken_format_counts_like_a_failed_call() -> None:
    counts = collections.Counter[int]()
    for number in range(3000):
        right = [
            make(0, correct=True, calls="x", group=number),
            make(1, correct=True, calls="x", group=number, keeps_format=False),
        ]
        (found,) = group_selection.resample(right, 1, seed=3)
        counts[found.rollout_id.sample_index] += 1
    # Penalties 1 and 2.
    assert counts[0] / 3000 == pytest.approx(2 / 3, abs=0.03)


def test_wrong_ones_are_drawn_alike() -> None:
    counts = collections.Counter[int]()
    for number in range(3000):
        wrong = [make(0, calls="xxx", group=number), make(1, group=number)]
        (found,) = group_selection.resample(wrong, 1, seed=3)
        counts[found.rollout_id.sample_index] += 1
    assert counts[0] / 3000 == pytest.approx(0.5, abs=0.03)


def test_groups_and_seeds_draw_apart() -> None:
    def drawn(seed: int, group: int) -> tuple[int, ...]:
        made = [make(index, correct=index % 2 == 0, group=group) for index in range(16)]
        kept = group_selection.resample(made, 8, seed=seed)
        return tuple(each.rollout_id.sample_index for each in kept)

    assert len({drawn(seed, group) for seed in range(4) for group in range(4)}) > 12
