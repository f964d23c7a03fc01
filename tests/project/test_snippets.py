"""Every snippet of the documentation runs, and every command in it is one that there is."""

import contextlib
import io
import re
import sys
import types
from pathlib import Path

import pytest

from r1ci_jax.cli import experiment_file, main
from r1ci_jax.config import DatasetConfig
from r1ci_jax.data import datasets
from r1ci_jax.tasks import registry
from tests.project import snippets
from tests.project.snippets import Snippet
from tests.rollout.scripts import CODE_THEN_ANSWER
from tests.scripted_checkpoint import write_checkpoint, write_run

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    str(path.relative_to(ROOT))
    for pattern in ("*.md", "docs/*.md", "docs/adr/*.md", "*/README.md")
    for path in ROOT.glob(pattern)
)
ELSEWHERE = {
    "docs/serving.md": "tests/tools/test_serve.py",  # they ask a server
    "docs/verifiers.md": "tests/tasks/test_verifiers.py",  # they need that package
}
"""Pages whose snippets another test runs."""
WITH_PYTHON = [
    page
    for page in PAGES
    if page not in ELSEWHERE and any(s.language == "python" for s in snippets.read(ROOT / page))
]
NAMED = re.compile(r"(?:experiments|examples|scripts|benchmarks|tests)/[\w/.-]+\.(?:py|sh)")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working directory that has what the pages speak of: checkpoints and runs, in small."""
    place = tmp_path_factory.mktemp("reader")
    write_checkpoint(place / "Qwen/Qwen2.5-0.5B-Instruct", CODE_THEN_ANSWER)
    write_run(place / "runs/toy", {"sft": 0, "grpo_curriculum": 1})
    questions = DatasetConfig(
        tasks=registry.names(suite="toy")[:2], sft_per_task=4, grpo_per_task=64, eval_per_task=4
    )
    for run in ("runs/toy", "runs/r1ci-14b"):
        datasets.build_tasks(questions, seed=0, data_dir=place / run / "data")
    return place


@pytest.mark.parametrize("page", WITH_PYTHON)
def test_the_snippets_of_a_page_run_in_their_order(
    page: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for made in folder.iterdir():
        (tmp_path / made.name).symlink_to(made)
    monkeypatch.chdir(tmp_path)
    module = types.ModuleType("snippets_of_" + re.sub(r"\W", "_", page))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    for snippet in snippets.read(ROOT / page):
        if snippet.language == "python":
            # Its lines have the numbers of the page, for the traceback.
            text = "\n" * (snippet.line - 1) + snippet.text
            exec(compile(text, str(ROOT / page), "exec"), vars(module))  # our own documentation


def test_pages_with_snippets_are_found() -> None:
    assert {"README.md", "CONTRIBUTING.md", "docs/library.md", "docs/data.md"} <= set(WITH_PYTHON)
    assert "sandboxes/README.md" in WITH_PYTHON
    for page, test in ELSEWHERE.items():
        assert Path(page).name in (ROOT / test).read_text()


def refusal(words: list[str]) -> str:
    """Return why the command line would refuse these words of `r1ci`; empty if it would not."""
    shown = io.StringIO()
    try:
        with contextlib.redirect_stdout(shown), contextlib.redirect_stderr(shown):
            args, rest = main.make_parser(main._named(words)).parse_known_args(words)
    except SystemExit as stop:
        return "" if not stop.code else shown.getvalue()
    except Exception as error:
        return str(error)
    if rest and not getattr(args, "takes_overrides", False):
        return f"unrecognized arguments: {rest}"
    spec = getattr(args, "exp", None)
    if spec and spec.partition(":")[0].endswith(".py"):
        try:
            experiment_file.load(spec, rest)
        except Exception as error:
            return f"{spec}: {error}"
    return ""


def problems(page: str) -> list[str]:
    found = []
    for snippet in snippets.read(ROOT / page):
        for words in snippets.commands(snippet):
            line = " ".join(words)
            missing = [name for name in NAMED.findall(line) if not (ROOT / name).exists()]
            if missing:
                found.append(f"{page}:{snippet.line}: {line}: there is no {missing[0]}")
            program = words[0].removeprefix(".venv/bin/")
            if program == "r1ci" and (why := refusal(words[1:])):
                found.append(f"{page}:{snippet.line}: {line}: {why}")
            if program == "make" and not re.search(
                rf"^{words[1]}:", (ROOT / "Makefile").read_text(), re.MULTILINE
            ):
                found.append(f"{page}:{snippet.line}: {line}: the Makefile has no such target")
    return found


def test_commands_of_the_pages_are_ones_that_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert [problem for page in PAGES for problem in problems(page)] == []


def test_a_wrong_command_would_be_found() -> None:
    block = Snippet("", 1, "r1ci rnu x && r1ci run experiments/toy.py --config.sft.lrr=1\n")
    assert [bool(refusal(words[1:])) for words in snippets.commands(block)] == [True, True]
    block = Snippet(
        "", 1, "for s in 0 1; do r1ci run experiments/toy.py --config.seed=$s; done #\n"
    )
    assert [words[-1] for words in snippets.commands(block)] == [
        "--config.seed=0",
        "--config.seed=1",
    ]
    assert not any(refusal(words[1:]) for words in snippets.commands(block))
    assert not list(snippets.commands(Snippet("python", 1, "r1ci\n")))
