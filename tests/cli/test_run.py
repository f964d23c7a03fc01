"""`r1ci run` around the pipeline: directory, resume, JSON. The stages have their own tests."""

import json
import sys
import types
from pathlib import Path
from typing import Any

import pytest

import r1ci_jax
from r1ci_jax.cli.main import main
from r1ci_jax.runtime import metrics, run_dir
from r1ci_jax.sandbox import Sandbox

FILE = """
from r1ci_jax.config import Experiment, DatasetConfig

def get_config(variant=""):
    return Experiment(name="probe", dataset=DatasetConfig(tasks=("toy_sorting",)))
"""


class Recorder(types.ModuleType):
    """Stands where the stages are: notes what was asked and writes one result."""

    def __init__(self) -> None:
        super().__init__("pipeline")
        self.calls: list[tuple[Any, str | None]] = []
        self.interrupt = False

    def run(
        self, experiment: Any, directory: run_dir.RunDir, sandbox: Sandbox, only: str | None = None
    ) -> None:
        """Finish the stage `eval`, noisily."""
        self.calls.append((experiment, only))
        assert sandbox.run("print(1)").stdout == "1\n"
        print("noise of a library")
        if self.interrupt:
            raise KeyboardInterrupt
        with metrics.JsonlLog(directory.results_path) as log:
            facts = {"model": "sft", "agent": "code_agent", "task": "toy_sorting"}
            log.append(facts | {"n": 4, "correct": 3})
        directory.mark_finished("eval")


@pytest.fixture
def pipeline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Recorder:
    recorder = Recorder()
    monkeypatch.setitem(sys.modules, "r1ci_jax.pipeline", recorder)
    monkeypatch.setattr(r1ci_jax, "pipeline", recorder, raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "probe.py").write_text(FILE)
    return recorder


def test_run_prints_config_and_table(
    pipeline: Recorder, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", "probe.py", "--config.sft.lr=0.5"]) == 0
    shown = capsys.readouterr()
    assert "* sft.lr = 0.5   (file: 1e-05)" in shown.err
    assert "75.0" in shown.out
    assert pipeline.calls[0][0].sft.lr == 0.5 and pipeline.calls[0][1] is None
    config = run_dir.RunDir.view(Path("runs/probe")).config
    assert config["changes"] == {"sft.lr": [1e-05, 0.5]} and config["devices"] == ["cpu"]


def test_json_is_all_of_stdout(pipeline: Recorder, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eval", "probe.py", "--json", "--workdir", "elsewhere"]) == 0
    shown = capsys.readouterr()
    facts = json.loads(shown.out)
    assert facts["workdir"] == "elsewhere" and facts["stages"] == ["eval"]
    assert facts["results"][0]["accuracy"] == 0.75
    assert "noise of a library" in shown.err
    assert pipeline.calls[0][1] == "eval"


def test_other_config_is_refused_before_anything_runs(
    pipeline: Recorder, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", "probe.py"]) == 0
    assert main(["run", "probe.py", "--config.seed=1"]) == 2
    assert "seed (there 0, now 1)" in capsys.readouterr().err.splitlines()[-1]
    assert len(pipeline.calls) == 1


def test_interrupted_run_can_be_taken_up(
    pipeline: Recorder, capsys: pytest.CaptureFixture[str]
) -> None:
    pipeline.interrupt = True
    assert main(["run", "probe.py"]) == 130
    assert "continue where it stopped: r1ci run probe.py" in capsys.readouterr().err
    pipeline.interrupt = False
    assert main(["run", "probe.py"]) == 0
