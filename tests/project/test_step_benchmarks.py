"""The benchmarks of training steps: our sides at a tiny shape, and how sides are asked alone."""

import json
import pathlib
import subprocess
import sys
from types import ModuleType

import pytest

ROOT = pathlib.Path(__file__).parents[2]
COUNTING = """
import sys
sys.path.insert(0, {peers!r})
import wire
line = wire.Line(("pip",))
print("what a library prints")
for turn, request in enumerate(line, 1):  # a loop that is not ours asks while it runs
    line.reply({{"seconds": request["seconds"] * turn}})
"""


@pytest.fixture
def benchmarks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")


@pytest.fixture
def alternate(benchmarks: None) -> ModuleType:
    import alternate

    return alternate


@pytest.fixture
def tiny(benchmarks: None, monkeypatch: pytest.MonkeyPatch) -> str:
    """A shape that takes no time."""
    from peers import shapes

    shape = shapes.Shape(vocab=320, width=16, layers=1, mlp_width=16, query_heads=2, kv_heads=1)
    monkeypatch.setitem(shapes.SHAPES, "tiny", shape)  # type: ignore[arg-type]  # a dict inside
    return "tiny"


def test_sides_that_are_asked_alone_are_processes_of_their_own(
    alternate: ModuleType, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
):
    script = tmp_path / "counting.py"
    script.write_text(COUNTING.format(peers=str(ROOT / "benchmarks/peers")))
    command = [sys.executable, str(script)]
    absent = alternate.Peer(environment=".venv-peers-none", script="trl_grpo.py")
    answers = alternate.ask_alone(
        {alternate.OURS: command, "other": command, "none": absent}, {"seconds": 2.0}, rounds=3
    )
    assert "none is not installed ('make peers')" in capsys.readouterr().err
    for side in (alternate.OURS, "other"):  # each counts from 1
        assert [answer["seconds"] for answer in answers[side]] == [2.0, 4.0, 6.0]
    assert answers["none"] is None
    assert alternate.times_faster(answers, "none", "seconds") is None


def test_who_takes_twice_as_long_is_half_as_fast(alternate: ModuleType):
    answers = {"ours": [{"s": 2.0}, {"s": 9.0}, {"s": 1.0}], "peer": [{"s": 4.0}]}
    assert alternate.times_faster(answers, "peer", "s") == 2.0


def test_a_grpo_step_samples_what_was_asked_for_and_moves_the_weights(
    tiny: str, monkeypatch: pytest.MonkeyPatch
):
    import grpo_ours
    import jax
    import numpy as np
    from peers import grpo_task

    monkeypatch.setattr(grpo_task, "SHAPE", tiny)
    monkeypatch.setattr(grpo_ours, "VOCAB", 320)
    sizes = grpo_ours.Sizes(prompts=2, completions=2, prompt=32, new=8)
    trainer = grpo_ours.Trainer(sizes)
    before = jax.tree.map(np.asarray, trainer.state.params)
    # The step itself checks the lengths of rows and completions, and that there was a gradient.
    found = trainer.step()
    assert found["step_seconds"] == pytest.approx(
        found["sampling_seconds"] + found["update_seconds"]
    )
    moved = jax.tree.map(
        lambda old, new: (old != np.asarray(new)).any(), before, trainer.state.params
    )
    assert any(jax.tree.leaves(moved))
    assert trainer.groups == (grpo_task.WARM_UP_STEPS + 1) * sizes.prompts


def test_the_reward_counts_low_ids_and_refuses_another_length(benchmarks: None):
    from peers import grpo_task

    assert grpo_task.reward([0, 4, 5, 9], 4, 10) == 0.5
    with pytest.raises(AssertionError, match="3 tokens were sampled instead of 4"):
        grpo_task.reward([0, 4, 5], 4, 10)


def test_both_versions_of_the_loss_compute_the_same(tiny: str, monkeypatch: pytest.MonkeyPatch):
    import loss_memory
    import numpy as np

    monkeypatch.setattr(loss_memory, "SHAPE", tiny)
    monkeypatch.setattr(loss_memory, "LENGTH", 24)
    found = {}
    for version in loss_memory.VERSIONS:
        step, train_state, batch = loss_memory.parts(version)
        _, found[version] = step(train_state, batch)
    for key in ("optim/loss", "optim/grad_norm"):
        np.testing.assert_allclose(found["ours"][key], found["full"][key], rtol=1e-5)


def test_the_peak_starts_from_what_is_held(benchmarks: None):
    code = (
        "import sys; sys.path.insert(0, 'benchmarks'); import loss_memory\n"
        "once = bytearray(2**28); del once\n"
        "held = loss_memory.restart_peak(); import json\n"
        "twice = bytearray(2**27); print(json.dumps([held, loss_memory.wire.peak_bytes()]))"
    )
    printed = subprocess.check_output([sys.executable, "-c", code], cwd=ROOT, text=True)
    held, peak = json.loads(printed)
    # The kernel counts whole batches of pages: up to some hundred kilobytes are in nobody's count.
    assert 2**27 - 2**20 <= peak - held < 2**28
