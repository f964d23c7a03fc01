"""`r1ci eval MODEL`: rows that a seed repeats, also after a kill; every agent; what is refused."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import jax
import pytest
from flax import nnx

from r1ci_jax.cli.main import main
from r1ci_jax.config import DatasetConfig, EvalConfig, Experiment, SamplingParams
from r1ci_jax.model import presets, qwen2
from r1ci_jax.runtime import metrics
from r1ci_jax.runtime.run_dir import RunDir
from r1ci_jax.text import tokenizer as tokenizers
from r1ci_jax.train import checkpoint
from tests.load import PATIENCE
from tests.rollout.scripts import CODE_THEN_ANSWER, MIXED, ONLY_EOS

BARE = ("--prompts", "none", "--no-ask-for-answer", "--temperature", "1", "--top-k", "0")
SHORT = (
    *("--context", "200", "--max-tokens", "60", "--max-observation-tokens", "40"),
    *("--slots", "4"),
)
"""A trajectory of these models is short; the same for all tests, whose programs compile once."""
MANY = (
    *("--tasks", "toy_letters", "toy_sorting", "--questions", "40", "--samples", "2"),
    *("--agents", "Code Agent,all_text", "--trajectories", "6"),
)


def rows(workdir: Path) -> list[bytes]:
    """All files of an evaluation that have no times in them."""
    return [(workdir / name).read_bytes() for name in ("evaluation.jsonl", "results.jsonl")]


def untimed(workdir: Path) -> list[dict[str, Any]]:
    found = metrics.read(workdir / "trajectories.jsonl")
    for call in (call for record in found for call in record["code_calls"]):
        del call["wall_seconds"]
    return found


def test_one_seed_gives_the_same_rows_also_after_a_kill(
    tmp_path: Path, scripted, capsys: pytest.CaptureFixture[str]
) -> None:
    place, whole, killed = scripted(MIXED), tmp_path / "whole", tmp_path / "killed"
    words = ["eval", place, *MANY, *BARE, *SHORT]
    file = killed / "evaluation.jsonl"
    command = [sys.executable, "-m", "r1ci_jax", *words, "--workdir", str(killed)]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end and process.poll() is None:
            if file.exists() and file.read_bytes().count(b"\n") > 2:
                break
            time.sleep(0.002)
        process.kill()
    assert process.returncode == -signal.SIGKILL, "it ended before it was killed"
    answered = file.read_bytes().count(b"\n")
    assert 2 < answered < 160
    for workdir in (whole, killed):
        assert main([*words, "--workdir", str(workdir)]) == 0
    assert rows(whole) == rows(killed)
    assert untimed(whole) == untimed(killed) and len(untimed(whole)) == 12
    questions = metrics.read(whole / "evaluation.jsonl")
    assert len(questions) == len(metrics.read(whole / "timings.jsonl")) == 160
    assert {sum(each["stops"].values()) for each in questions} == {2}
    assert {each["agent"] for each in questions if each["code_calls"]} == {"code_agent"}
    # Again: nothing is asked, and the table is shown.
    before = rows(whole)
    capsys.readouterr()
    assert main([*words, "--workdir", str(whole)]) == 0
    shown = capsys.readouterr()
    assert rows(whole) == before and "compiling" not in shown.err
    assert "avg@2" in shown.out and "pass@2" in shown.out and "all_text" in shown.out


def test_other_settings_are_refused_in_one_line(
    tmp_path: Path, scripted, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["eval", scripted(ONLY_EOS), "--tasks", "toy_letters", "--questions", "1", *SHORT]
    words += [*BARE, "--workdir", str(tmp_path / "w")]
    assert main(words) == 0
    capsys.readouterr()
    assert main([*words, "--seed", "1", "--max-code-calls", "3"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "seed (there 0, now 1), limits.max_code_calls (there 8, now 3)" in line
    # Weights of the same shape at the same place are other weights.
    other = Path(scripted(CODE_THEN_ANSWER))
    (other / "model.safetensors").replace(Path(words[1]) / "model.safetensors")
    assert main(words) == 2
    assert "other settings: weights (there" in capsys.readouterr().err


def test_a_wrong_command_leaves_the_directory_to_the_corrected_one(
    tmp_path: Path, scripted, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["eval", scripted(ONLY_EOS), "--tasks", "toy_letters", *BARE, *SHORT]
    words += ["--workdir", str(tmp_path / "w")]
    assert main([*words, "--questions", "201"]) == 2
    assert "200 of each task are held out" in capsys.readouterr().err
    assert main([*words, "--questions", "1"]) == 0
    # What is answered stays with its settings.
    assert main([*words, "--questions", "201"]) == 2
    assert "questions (there 1, now 201)" in capsys.readouterr().err


def test_json_has_every_agent_and_nothing_else(
    tmp_path: Path, scripted, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("--tasks", "toy_letters", "--questions", "2", "--agents", "all", "--json")
    place = scripted(CODE_THEN_ANSWER)
    (Path(place) / "generation_config.json").write_text(
        json.dumps({"do_sample": True, "temperature": 0.7, "no_repeat_ngram_size": 2})
    )
    where = str(tmp_path / "w")
    given = (*words, "--prompts", "none", "--name", "mine", "--workdir", where)
    assert main(["eval", place, *given, *SHORT]) == 0
    shown = capsys.readouterr()
    found = json.loads(shown.out)
    assert found["model"] == "mine" and "no_repeat_ngram_size" in found["deviations"][0]
    assert "mine: no_repeat_ngram_size = 2 of its generation_config.json" in shown.err
    calls = {each["agent"]: each["code_calls_per_trajectory"] for each in found["results"]}
    # CodeSteer's first answer is sent back to be checked, by one more script.
    assert calls == {"code_agent": 1.0, "all_text": 0.0, "all_code": 1.0, "codesteer": 2.0}
    settings = json.loads((tmp_path / "w/eval.json").read_text())["settings"]
    assert settings["eval"]["sampling"]["temperature"] == 0.7
    assert settings["eval"]["ask_for_answer"] is True
    assert {each["stop"] for each in metrics.read(tmp_path / "w/trajectories.jsonl")} <= {
        "answer", "eos", "max_tokens",
    }  # fmt: skip


def test_a_prompt_that_is_too_long_is_a_row_and_a_footnote(
    tmp_path: Path, scripted, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["eval", scripted(ONLY_EOS), "--tasks", "toy_letters", "game24", "--questions", "2"]
    assert main([*words, *BARE, *SHORT, "--workdir", str(tmp_path / "w")]) == 0
    found = {each["task"]: each for each in metrics.read(tmp_path / "w/results.jsonl")}
    assert (found["game24"]["n"], found["game24"]["too_long"]) == (0, 2)
    assert (found["toy_letters"]["n"], found["toy_letters"]["too_long"]) == (2, 0)
    assert "does not fit into the cache: 2 questions (game24)" in capsys.readouterr().out


def test_a_model_of_a_run_is_used_as_its_run_did(tmp_path: Path) -> None:
    run = tmp_path / "run"
    sampling = SamplingParams(temperature=0.9, top_k=7)
    dataset = DatasetConfig(tasks=("toy_letters",), difficulties=(2,), eval_per_task=6)
    experiment = Experiment(
        name="x", dataset=dataset, data_seed=5, eval=EvalConfig(sampling=sampling)
    )
    RunDir.open(run, experiment).close()
    config = presets.get("toy")
    params = nnx.state(nnx.jit(lambda: qwen2.Qwen2(config, rngs=nnx.Rngs(jax.random.key(0))))())
    checkpoint.save_params(run / "checkpoints" / "sft" / "final", params)
    tokenizers.train_byte_bpe(["print(1)"] * 3, 400).save(run / "tokenizer")
    words = ["eval", str(run), "--tasks", "toy_letters", "--questions", "2", "--max-tokens", "6"]
    assert main([*words, "--workdir", str(tmp_path / "w")]) == 0
    settings = json.loads((tmp_path / "w/eval.json").read_text())["settings"]
    assert settings["name"] == "run/sft" and settings["trained"] == "sft"
    assert (settings["prompts"], settings["system"]) == ("none", "")
    assert settings["eval"]["sampling"] == vars(sampling)
    assert settings["eval"]["ask_for_answer"] is False
    assert settings["data_seed"] == 5 and settings["dataset"]["eval_per_task"] == 6
    assert {each["difficulty"] for each in metrics.read(tmp_path / "w/questions.jsonl")} == {2}
    [row] = metrics.read(tmp_path / "w/results.jsonl")
    assert row["n"] == 2 and row["tokens_per_trajectory"] <= 6


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nowhere"], "nowhere does not exist"),
        (["toy"], "toy is not published; train it"),
        (["nowhere", "--model", "sft"], "nowhere is no run"),
        (["nowhere", "--agents", "all_words"], "there is no agent 'all_words'; did you mean"),
        (["nowhere", "--questions", "0"], "--questions must be at least 1"),
        (["nowhere", "--samples", "99999999999"], "--samples must be at least 1 and at most 10000"),
        (["nowhere", "--max-code-calls", "-1"], "--max-code-calls must be at least 0"),
        (["nowhere", "--max-tokens", "3000000000"], "--max-tokens must be at least 1"),
        (["nowhere", "--top-p", "2"], "--top-p must be"),
        (
            ["nowhere", "--top-k", "99999999999"],
            "--top-k must be at least 0 and at most 21",
        ),
        (
            ["nowhere", "--repetition-penalty", "1e-300"],
            "--repetition-penalty must be at least 0.01",
        ),
        (["nowhere", "--greedy", "--temperature", "1"], "--greedy is temperature 0"),
        (["nowhere", "--tasks", "toy_sortin"], "did you mean toy_sorting"),
        (["nowhere", "--difficulties", "easy"], "--difficulties easy: numbers with commas"),
        (["nowhere", "--difficulties", ",,"], "--difficulties ,,: numbers with commas"),
        (["nowhere", "--config.eval.x=1"], "unrecognized arguments: --config.eval.x=1"),
        (["--tasks", "toy"], "name a model"),
        (["x.py", "--tasks", "toy"], "--tasks is for r1ci eval MODEL"),
    ],
)
def test_mistakes_are_one_line(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["eval", *words]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_help_is_that_of_a_model_or_of_an_experiment(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eval", "--help"]) == 0
    assert "--ask-for-answer" in capsys.readouterr().out
    assert main(["eval", "experiments/toy.py", "--help"]) == 0
    shown = capsys.readouterr().out
    assert "eval.ask_for_answer" in shown and "--questions N" not in shown


def test_an_agent_of_ones_own_is_evaluated(
    tmp_path: Path,
    scripted,
    own_modules: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(own_modules)
    place = scripted({**MIXED, " \n": "k", "k": " ", " ": "ok", "ok": "!')\n"})
    words = ["eval", place, "--tasks", "toy_letters", "--questions", "10", *BARE, *SHORT]
    words[words.index("--context") + 1] = "256"
    given = [*words, "--agents", "code_agent", "my_agent:Counter", "--workdir", "w", "--json"]
    assert main(given) == 0
    results = {each["agent"]: each for each in json.loads(capsys.readouterr().out)["results"]}
    assert set(results) == {"code_agent", "counter"}
    rows_of = {each["agent"]: each for each in metrics.read(Path("w/results.jsonl"))}
    # What the tool says is no output of a script.
    assert rows_of["counter"]["code_calls_per_trajectory"] == 0 and rows_of["counter"]["n"] == 10
    assert rows_of["code_agent"]["code_calls_per_trajectory"] > 0
    shown = [each for each in metrics.read(Path("w/trajectories.jsonl")) if "counter" in str(each)]
    assert any("\n1\n" in json.dumps(each).replace("\\n", "\n") for each in shown)
    # Nothing is left to ask.
    assert main(given) == 0 and "compiling" not in capsys.readouterr().err
    assert main([*words, "--agents", "my_agent:Conter"]) == 2
    assert "did you mean my_agent:Counter?" in capsys.readouterr().err
