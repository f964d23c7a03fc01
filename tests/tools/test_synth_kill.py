"""`r1ci synth` killed in the middle and run again: the same file, no finished task repeated."""

import pathlib
import subprocess
import sys
import time

from tests.load import PATIENCE
from tests.tools import tiny_experiment


def test_a_killed_run_repeats_no_finished_task(tmp_path: pathlib.Path) -> None:
    (tmp_path / "tiny.py").write_text(tiny_experiment.source(("letters", "number_multiply"), 24))
    command = [sys.executable, "-m", "r1ci_jax", "synth", str(tmp_path / "tiny.py")]
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    finished = killed / "demonstrations" / "letters.jsonl"
    with subprocess.Popen([*command, "--jobs", "1", "--workdir", str(killed)]) as process:
        end = time.monotonic() + PATIENCE
        while not finished.exists() and process.poll() is None and time.monotonic() < end:
            time.sleep(0.002)
        process.kill()
    assert finished.exists() and not (killed / "demonstrations.jsonl").exists()
    before = finished.stat().st_mtime_ns
    for workdir, jobs in ((killed, "1"), (whole, "2")):
        words = ["--jobs", jobs, "--workdir", str(workdir)]
        subprocess.run([*command, *words], check=True, timeout=PATIENCE)
    assert finished.stat().st_mtime_ns == before, "a finished task was written again"
    made = [path / "demonstrations.jsonl" for path in (killed, whole)]
    assert made[0].read_bytes() == made[1].read_bytes() and made[0].stat().st_size
