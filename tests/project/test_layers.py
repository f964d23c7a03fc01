import pathlib
import shutil
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]
LINT_IMPORTS = pathlib.Path(sys.executable).with_name("lint-imports")


def run(command: list[str | pathlib.Path], root: pathlib.Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        cwd=root,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_imports_keep_the_layers() -> None:
    done = run([LINT_IMPORTS, "--no-cache"], ROOT)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("module", "forbidden"),
    [
        ("sampling", "r1ci_jax.sandbox.api"),  # the sampler knows nothing of code
        ("train", "r1ci_jax.sandbox.api"),  # a trainer knows nothing of nsjail
        ("model", "r1ci_jax.data.batching"),  # upward
    ],
)
def test_a_forbidden_import_is_caught(tmp_path: pathlib.Path, module: str, forbidden: str) -> None:
    skip = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "r1ci_jax", tmp_path / "r1ci_jax", ignore=skip)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    (tmp_path / "r1ci_jax" / module / "intruder.py").write_text(f"import {forbidden}\n")
    done = run([LINT_IMPORTS, "--no-cache"], tmp_path)
    assert done.returncode == 1
    assert f"r1ci_jax.{module}.intruder" in done.stdout


@pytest.mark.parametrize(
    "module",
    [
        "r1ci_jax.sandbox",
        "r1ci_jax.sandbox.install.prepare_jail",
        "r1ci_jax.text.protocol",
        "r1ci_jax.tasks.registry",
        "r1ci_jax.config",
        "r1ci_jax.runtime.metrics",
        "r1ci_jax.runtime.progress",
        "r1ci_jax.cli.main",
    ],
)
def test_rooms_without_numbers_start_without_jax(module: str) -> None:
    source = f"import sys, {module}; assert 'jax' not in sys.modules, 'it imports jax'"
    done = run([sys.executable, "-c", source], ROOT)
    assert done.returncode == 0, done.stderr
