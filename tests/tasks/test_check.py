"""The checker passes sound tasks and names what is wrong with unsound ones."""

import json
import subprocess
import sys

import pytest

from r1ci_jax.cli.main import main
from r1ci_jax.tasks import check, registry
from r1ci_jax.tasks.base import Example, Verdict
from r1ci_jax.tasks.toy.arithmetic import Arithmetic


def test_all_toy_tasks_pass() -> None:
    reports = list(check.check(registry.names(suite="toy")))
    assert [report.problems for report in reports] == [()] * 6
    assert all(report.num_golds_correct == report.items == 200 for report in reports)
    assert all(report.same_elsewhere for report in reports)


class _Lenient(Arithmetic):
    """Takes any answer."""

    def score(self, example: Example, answer_text: str) -> Verdict:
        return Verdict(correct=True, reason="generous")


class _Deaf(Arithmetic):
    """Takes no answer."""

    def score(self, example: Example, answer_text: str) -> Verdict:
        return Verdict(correct=False, reason="no")


class _Drifting(Arithmetic):
    """Draws questions that depend on the process's hash seed."""

    def generate(self, index: int, seed: int, difficulty: int) -> Example:
        return super().generate(hash(str(index)), seed, difficulty)


@pytest.mark.parametrize(
    ("task", "problem"),
    [
        (_Lenient(), "scores as correct"),
        (_Deaf(), "scores as wrong"),
        (_Drifting(), "another process"),
    ],
)
def test_unsound_tasks_are_found(
    task: Arithmetic, problem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "get", lambda name: task)
    (report,) = check.check(["toy_arithmetic"], items=20)
    assert not report.is_passed
    assert any(problem in text for text in report.problems)


def test_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tasks", "list", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)["tasks"]
    assert [task["name"] for task in listed][:6] == list(registry.names(suite="toy"))
    assert main(["tasks", "sample", "toy_letters", "-n", "3", "--difficulty", "2", "--json"]) == 0
    drawn = json.loads(capsys.readouterr().out)["examples"]
    assert [example["difficulty"] for example in drawn] == [2, 2, 2]
    assert main(["tasks", "show", "toy_search"]) == 0
    assert "print(next(" in capsys.readouterr().out
    assert main(["tasks", "check", "toy_sorting", "--items", "10"]) == 0
    assert "1 of 1 tasks pass" in capsys.readouterr().out
    assert main(["tasks", "sample", "toy_letters", "--difficulty", "9"]) == 2
    assert main(["tasks", "show", "toy_leters"]) == 2
    assert "did you mean toy_letters" in capsys.readouterr().err


def test_task_commands_load_no_accelerator_library() -> None:
    script = (
        "import sys; from r1ci_jax.cli.main import main; main(['tasks', 'list']);"
        "sys.exit(any(name in sys.modules for name in ('jax', 'tensorflow', 'grain')))"
    )
    subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)
