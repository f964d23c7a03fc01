"""`r1ci completion`: that of bash completes in a real bash; those of others name every word."""

import subprocess
from pathlib import Path

import pytest

from r1ci_jax.cli import main as cli
from r1ci_jax.cli.experiment_file import leaf_fields
from r1ci_jax.cli.shell import completion
from r1ci_jax.config import Experiment

ASK = """
source "$1"; shift
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMP_LINE="$*"; COMP_POINT=${#COMP_LINE}
_shtab_r1ci "$1" "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("completion") / "r1ci"
    path.write_text(completion.make_script("bash"))
    return path


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("r1ci ru", {"run"}),
        ("r1ci sa", {"sandbox"}),
        ("r1ci sandbox ", {"doctor", "setup", "exec", "bench", "soak"}),
        ("r1ci sandbox exec --backend ", {"zygote", "cold", "ray"}),
        ("r1ci sandbox exec --js", {"--json"}),
        ("r1ci run --dr", {"--dry-run"}),
        ("r1ci grpo --config.grpo.clip_", set()),
        ("r1ci run --config.sft.sched", {"--config.sft.schedule"}),
        ("r1ci run --config.sft.schedule ", {"cosine", "constant"}),
        ("r1ci sft --config.sft.packing ", {"True", "False"}),
        ("r1ci run probe", {"probe.py"}),
        ("r1ci report pro", {"probes"}),
    ],
)
def test_bash_offers(script: Path, tmp_path: Path, words: str, offered: set[str]) -> None:
    (tmp_path / "probe.py").touch()
    (tmp_path / "probes").mkdir()
    done = subprocess.run(
        ["bash", "-c", ASK, "bash", str(script), *words.split(" ")],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0 and done.stderr == ""
    if words.endswith("clip_"):
        offered = {f"--config.grpo.{name}" for name in ("clip_norm", "clip_low", "clip_high")}
    if words.endswith("run probe"):
        offered = offered | {"probes"}  # a file of a directory
    assert set(done.stdout.split()) == offered


@pytest.mark.parametrize("shell", completion.SHELLS)
def test_every_word_is_in_the_script(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["completion", shell]) == 0
    text = capsys.readouterr().out
    words = [*cli.COMMANDS, *(f"config.{name}" for name in leaf_fields(Experiment)), "dry-run"]
    assert len(words) > 150
    assert [word for word in words if word not in text] == []
