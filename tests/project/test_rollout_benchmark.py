"""The benchmark of rollouts: its clock by hand, its policy's lengths, its two loops alike."""

import pathlib
from types import ModuleType

import numpy as np
import pytest

ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture
def rollout(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    import rollout

    return rollout


@pytest.fixture
def scripted(rollout: ModuleType) -> ModuleType:
    return rollout.scripted


def test_lengths_are_a_lognormal_cut_at_both_ends(scripted: ModuleType) -> None:
    lengths = scripted.Lengths(median=350 / 8, sigma=0.8, cap=187)
    chances = lengths.chances()
    assert len(chances) == 188 and chances[:2].tolist() == [0, 0]
    np.testing.assert_allclose(chances.sum(), 1)
    # Half of a lognormal lies below its median, and 0.159 above e^sigma times it.
    np.testing.assert_allclose(chances[:44].sum(), 0.5, atol=0.01)
    np.testing.assert_allclose(chances[98:].sum(), 0.159, atol=0.01)


def test_what_follows_a_token_has_probability_one(scripted: ModuleType) -> None:
    lengths = scripted.Lengths(median=4.0, sigma=0.8, cap=9, mean_turns=2.5)
    follows = scripted.follows(lengths)
    np.testing.assert_allclose([sum(each.values()) for each in follows.values()], 1)
    assert follows[" w1"][scripted.ANSWER] == pytest.approx(1 / 2.5)


@pytest.fixture
def world(rollout: ModuleType):
    setting = rollout.Setting(scale=25, slots=4, per_slot=4, chunk_steps=50, lag=4, seeds=1)
    return rollout.World(setting)


def test_the_clock_counts_steps_and_waits_for_what_is_late(rollout: ModuleType, world) -> None:
    engine, request = world.engine, world.requests(0)[0]
    prompt = tuple(rollout.chatml.prompt_ids(world.tokenizer, request.example.question))

    def enter(slot: int, budget: int) -> None:
        feed = rollout.SlotInput(
            slot=slot, tokens=prompt, position=0, budget=budget, rollout_id=(0, slot)
        )
        engine.feed([feed])

    enter(0, budget=1)
    engine.dispatch()
    engine.collect()
    assert (engine.now, engine.decoded_steps) == (1, 1)  # the chunk of 2 ended with its last row
    box = rollout.StandIn(engine, steps=10)
    script = box.submit("print(1)")
    enter(1, budget=2)
    engine.dispatch()
    engine.collect()
    assert engine.now == 3
    assert script.result().stdout  # there at step 11
    assert (engine.now, engine.decoded_steps) == (11, 3)
    assert script.result().stdout
    assert engine.now == 11


def test_both_loops_make_the_same_tokens_and_ours_keeps_its_slots_busier(
    rollout: ModuleType, world
) -> None:
    report = rollout.simulated(world)  # raises where the tokens differ
    assert report["tokens_ours"] == report["tokens_lockstep"] > 0
    assert report["ratio_lockstep"] > 1
    # No conversation is computed twice: every group's prompt once, and the observations.
    assert report["prefilled_tokens_ours"] < report["prefilled_tokens_lockstep"] / 2
    for name in ("ours", "lockstep", "partial"):
        assert report[f"decoded_steps_{name}"] <= report[f"steps_{name}"]
        assert 0 < report[f"useful_per_slot_step_{name}"] <= 1
