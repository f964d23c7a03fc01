import pathlib
import shutil
import subprocess
import sys

import grimp

from tests.load import PATIENCE

ROOT = pathlib.Path(__file__).parents[2]
LINT_IMPORTS = pathlib.Path(sys.executable).with_name("lint-imports")


def run(command: list[str | pathlib.Path], root: pathlib.Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        cwd=root,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


def test_imports_keep_the_layers() -> None:
    done = run([LINT_IMPORTS, "--no-cache"], ROOT)
    assert done.returncode == 0, done.stdout + done.stderr


FORBIDDEN = {
    "sampling": "r1ci_jax.sandbox.api",  # the sampler knows nothing of code
    "train": "r1ci_jax.sandbox.api",  # a trainer knows nothing of nsjail
    "model": "r1ci_jax.data.batching",  # upward
}


def test_forbidden_imports_are_caught(tmp_path: pathlib.Path) -> None:
    skip = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "r1ci_jax", tmp_path / "r1ci_jax", ignore=skip)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for package, forbidden in FORBIDDEN.items():
        (tmp_path / "r1ci_jax" / package / "intruder.py").write_text(f"import {forbidden}\n")
    done = run([LINT_IMPORTS, "--no-cache"], tmp_path)
    assert done.returncode == 1
    for package in FORBIDDEN:
        assert f"r1ci_jax.{package}.intruder" in done.stdout


def test_no_module_imports_itself_through_others() -> None:
    graph = grimp.build_graph("r1ci_jax", cache_dir=None)
    imports = {
        module: set(graph.find_modules_directly_imported_by(module)) for module in graph.modules
    }
    # Remove modules that import none, or are imported by none, of those that are left: only
    # cycles, and what connects them, stay.
    while True:
        imported = set().union(*imports.values())
        ends = {name for name, used in imports.items() if not used or name not in imported}
        if not ends:
            break
        imports = {name: used - ends for name, used in imports.items() if name not in ends}
    assert sorted(imports) == []


WITHOUT_JAX = (
    "r1ci_jax.sandbox",
    "r1ci_jax.sandbox.install.prepare_jail",
    "r1ci_jax.text.protocol",
    "r1ci_jax.tasks.registry",
    "r1ci_jax.config",
    "r1ci_jax.runtime.metrics",
    "r1ci_jax.runtime.progress",
    "r1ci_jax.cli.main",
)


def test_modules_without_numbers_start_without_jax() -> None:
    lines = ["import importlib, sys"]
    for module in WITHOUT_JAX:
        lines.append(f"importlib.import_module({module!r})")
        lines.append(f"assert 'jax' not in sys.modules, {module!r} + ' imports jax'")
    done = run([sys.executable, "-c", "\n".join(lines)], ROOT)
    assert done.returncode == 0, done.stderr
