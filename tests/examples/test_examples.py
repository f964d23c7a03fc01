"""The scripts of examples/ and its notebook run, the ones for a real model with a small one."""

import io
import json
import sys
from pathlib import Path

import pytest

from examples import chat_with_model, own_agent, sandbox_alone, tasks_alone
from r1ci_jax.rollout import agents
from r1ci_jax.runtime import metrics
from r1ci_jax.runtime.run_dir import RunDir
from r1ci_jax.tasks import registry
from r1ci_jax.text import protocol
from r1ci_jax.train import load_model
from tests.rollout.scripts import CODE_THEN_ANSWER
from tests.scripted_checkpoint import write_checkpoint

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working directory with a small checkpoint in the place of the real one."""
    place = tmp_path_factory.mktemp("examples")
    write_checkpoint(place / "Qwen/Qwen2.5-0.5B-Instruct", CODE_THEN_ANSWER)
    return place


def test_every_example_is_run_here() -> None:
    found = {path.name for path in (ROOT / "examples").iterdir() if path.is_file()}
    modules = (chat_with_model, own_agent, sandbox_alone, tasks_alone)
    assert found == {Path(str(each.__file__)).name for each in modules} | {"toy.ipynb"}


def test_sandbox_alone(capsys: pytest.CaptureFixture[str]) -> None:
    sandbox_alone.main()
    lines = capsys.readouterr().out.splitlines()
    assert lines[1] == "ok 5050" and lines[2].startswith("timeout_cpu")
    assert lines[3].startswith("exception FileNotFoundError")
    assert lines[4] == "{274177: 1, 67280421310721: 1}"
    assert lines[5] == "{'squares.csv': b'0,0\\n1,1\\n2,4\\n3,9'}"
    assert lines[6] == "['0', '1', '4', '9', '16']"


def test_tasks_alone(capsys: pytest.CaptureFixture[str]) -> None:
    tasks_alone.main()
    shown = capsys.readouterr().out
    assert "verdict: Verdict(correct=True" in shown and "wrong:   Verdict(correct=False" in shown
    assert shown.count("the answer 12 is right") == 6


def test_chat_with_a_model(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("Compute 3+4.\nAnd again.\n"))
    chat_with_model.main(str(folder / "Qwen/Qwen2.5-0.5B-Instruct"))
    shown = capsys.readouterr().out
    assert [shown.count(part) for part in ("> Compute 3+4.\n", "│ ok!\n", "answer: 7\n")] == [
        1,
        2,
        2,
    ]


def test_the_teacher_of_the_own_agent_shows_what_its_tool_says() -> None:
    (example,) = own_agent.generate_questions(7, 1)
    guessed = own_agent.demonstrate(example, guess=int(example.answer) - 1)
    assert [segment.text for segment in guessed.segments] != [f"<<<{example.answer}>>>"]
    assert not guessed.correct
    shown = own_agent.demonstrate(example)
    assert shown.correct
    asked, read, answered = (segment.text for segment in shown.segments)
    code = protocol.last_code(asked)
    assert code is not None and protocol.final_answer(answered) == example.answer
    turn = agents.ModelTurn(code=code, answer=None, num_answers=0, text=asked)
    action = own_agent.SHOPPER.act(turn)
    assert isinstance(action, agents.UseTool)
    assert read == protocol.tool_text(action.call()) == f"\n{example.answer}\n"
    assert registry.get("prices").score(example, example.answer).correct
    assert own_agent.price("__import__('os')") == "no such item"


def test_an_own_agent_is_trained(tmp_path: Path) -> None:
    settings = own_agent.Settings(
        demonstrations=100, epochs=1, steps=2, questions=16, held_out=8, workdir=tmp_path / "run"
    )
    accuracy = own_agent.main(settings)
    assert set(accuracy) == {"sft", own_agent.TRAINED}
    run = RunDir.view(settings.workdir)
    steps = [each for each in metrics.read(run.metrics_path) if each["stage"] == own_agent.TRAINED]
    assert [each["step"] for each in steps] == [1, 2]
    assert {each["agent"] for each in metrics.read(run.trajectories_path)} == {"shopper"}
    before, after = (
        load_model.load_from_run(run, name)[0].embed[...] for name in ("sft", own_agent.TRAINED)
    )
    assert (before != after).any()


def test_the_notebook(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setenv("MPLBACKEND", "agg")
    notebook = json.loads((ROOT / "examples/toy.ipynb").read_text())
    names: dict = {"__name__": "notebook"}
    num_run = 0
    for number, cell in enumerate(notebook["cells"], start=1):
        if cell["cell_type"] != "code":
            continue
        assert cell["outputs"] == [], "a notebook is kept without outputs"
        exec(compile("".join(cell["source"]), f"cell {number}", "exec"), names)  # our own
        if "parameters" in cell["metadata"].get("tags", ()):
            names |= {"SFT_STEPS": 12, "STEPS": 2, "DEMONSTRATIONS": 64}
        num_run += 1
    assert num_run == 7 and len(names["rewards"]) == 2
    assert names["trajectory"].answer == "7" and names["policy"].text(names["trajectory"])
