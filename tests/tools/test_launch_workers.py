"""Launches that really happen, on workers that are folders: every command is carried out."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from r1ci_jax.runtime import run_dir
from tests.load import PATIENCE, wait_until
from tests.tools import launch_rig
from tests.tools.launch_rig import Rig

# Replaces training: the first process writes a run directory.
PROBE = """
import os, sys
from r1ci_jax.runtime import run_dir
from r1ci_jax.config import Experiment, DatasetConfig

if os.environ.get("R1CI_PROCESS_ID", "0") == "0":
    location = sys.argv[sys.argv.index("--workdir") + 1]
    experiment = Experiment(name="probe", dataset=DatasetConfig(tasks=("toy_sorting",)))
    with run_dir.RunDir.open(location, experiment) as run:
        run.mark_finished(f"start_{len(run.finished_stages())}")
"""
HOSTS = ("me@one", "two")


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    made = Rig(tmp_path)
    (tmp_path / "probe_run.py").write_text(PROBE)
    yield made
    launch_rig.end_workers(tmp_path)  # a test that failed may leave a run that never ends


def by_ssh(rig: Rig, *words: str) -> tuple[str, ...]:
    rig.environment["PROBE_SCRIPT"] = str(rig.folder / "probe_run.py")
    place = f"--workdir=file://{rig.folder}/bucket/probe"
    hosts = f"--hosts={','.join(HOSTS)}"
    return ("experiments/probe.py:small", "--via=ssh", hosts, place, *words)


QUEUED = ("experiments/probe.py", "--tpu=v5p-32", "--workdir=gs://a-bucket/probe")
XPK = (*QUEUED, "--via=xpk", "--cluster=c")


def test_ssh_ships_starts_and_collects(rig: Rig) -> None:
    (rig.checkout / "untracked.txt").write_text("mine")
    done = rig.launch(*by_ssh(rig), "--env=MINE=a b", "--config.sft.lr=0.5")
    assert done.returncode == 0, done.stderr
    revision = rig.git("rev-parse", "HEAD")
    for number, host in enumerate(HOSTS):
        code = rig.worker(host) / f"r1ci/probe-{number}"
        assert (code / "marker.txt").read_text() == "committed\n"
        assert not (code / "untracked.txt").exists() and not (code / ".git").exists()
        seen = rig.seen(host)
        assert (seen["R1CI_COORDINATOR"], seen["R1CI_PROCESSES"]) == ("one:8476", "2")
        assert seen["R1CI_PROCESS_ID"] == str(number)
        assert (seen["MINE"], seen["PYTHONUNBUFFERED"]) == ("a b", "1")
        assert seen["R1CI_REVISION"] == revision
        assert seen["HF_HOME"] == str(rig.worker(host) / "r1ci/huggingface")
        (start,) = rig.starts(host)
        assert start.startswith("run experiments/probe.py:small --workdir file://")
        assert start.endswith("--config.sft.lr=0.5")
    collected = run_dir.RunDir.view(rig.folder / "bucket/probe")
    assert list(collected.finished_stages()) == ["start_0"]
    assert collected.config["git_revision"] == revision
    assert "the command has ended well" in done.stderr


def test_second_launch_resumes_the_run_and_ships_changes(rig: Rig) -> None:
    assert rig.launch(*by_ssh(rig)).returncode == 0
    rig.git("rm", "--quiet", "marker.txt")
    (rig.checkout / "scripts/find_python.sh").write_text("exit 0 # changed\n")
    (rig.checkout / "added.txt").write_text("new")
    rig.git("add", "added.txt")
    kept = rig.worker("two") / "r1ci/probe-1/.venv/kept"
    kept.write_text("packages are not installed anew")
    done = rig.launch(*by_ssh(rig), "--dirty")
    assert done.returncode == 0, done.stderr
    code = rig.worker("two") / "r1ci/probe-1"
    assert (code / "scripts/find_python.sh").read_text() == "exit 0 # changed\n"
    assert (code / "added.txt").exists() and not (code / "marker.txt").exists() and kept.exists()
    collected = run_dir.RunDir.view(rig.folder / "bucket/probe")
    assert list(collected.finished_stages()) == ["start_0", "start_1"]
    revision = rig.git("rev-parse", "HEAD")
    assert rig.seen("two")["R1CI_REVISION"] == f"{revision}+changes"
    assert rig.git("stash", "list") == "" and "added.txt" in rig.git("status", "--porcelain")


def test_worker_that_asks_to_be_resumed_is_started_again(rig: Rig) -> None:
    rig.tell("two", 75, 75)
    done = rig.launch(*by_ssh(rig))
    assert done.returncode == 0, done.stderr
    assert len(rig.starts("two")) == 3 and len(rig.starts("me@one")) == 1


def test_worker_is_started_again_a_bounded_number_of_times(rig: Rig) -> None:
    rig.tell("me@one", *[75] * 9)
    done = rig.launch(*by_ssh(rig), "--restarts=2")
    assert done.returncode == 2 and "failed with exit status 75" in done.stderr
    assert "launch again to resume" in done.stderr
    assert len(rig.starts("me@one")) == 3


def test_worker_that_fails_ends_the_launch_and_stops_the_others(rig: Rig) -> None:
    rig.tell("two", 3)
    rig.tell("me@one", "hang")
    done = rig.launch(*by_ssh(rig))
    assert done.returncode == 2
    last = done.stderr.splitlines()[-1]
    assert last.startswith("r1ci: step 7 of 7 failed with exit status 3: ssh") and "two" in last
    assert "the command failed with exit status 3" in done.stderr
    wait_until(lambda: (rig.worker("me@one") / "saved").exists())
    wait_until(lambda: (rig.worker("me@one") / "r1ci/probe-0/.job/status").exists())
    assert len(rig.starts("me@one")) == 1, "what was told to stop is not started again"


def test_run_outlives_the_launch_that_was_interrupted(rig: Rig) -> None:
    rig.tell("me@one", "hang")
    command = [sys.executable, "-m", "r1ci_jax", "launch", *by_ssh(rig)]
    launch = subprocess.Popen(
        command,
        cwd=rig.checkout,
        env=rig.environment,
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_until(lambda: (rig.worker("me@one") / "trapped").exists() and len(rig.calls()) >= 10)
    launch.send_signal(signal.SIGINT)
    _, errors = launch.communicate(timeout=PATIENCE)
    assert launch.returncode == 130 and "Follow the log again." in errors
    job = rig.worker("me@one") / "r1ci/probe-0"
    assert not (job / ".job/status").exists()
    again = rig.launch(*by_ssh(rig))
    assert again.returncode == 2 and "still runs: stop it first" in again.stderr
    stop = [call for call in rig.calls() if call[-1].endswith("launch_worker.sh stop")]
    assert stop == [], "nobody stopped it"
    line = "cd r1ci/probe-0 && sh scripts/launch_worker.sh"
    for verb in ("stop", "wait"):
        ended = subprocess.run(
            ["ssh", "me@one", f"{line} {verb}"], env=rig.environment, check=False
        ).returncode
    assert ended == 75 and (rig.worker("me@one") / "saved").exists()


def test_number_of_a_job_that_is_somebody_elses_now_is_left_alone(rig: Rig) -> None:
    other = subprocess.Popen(["/bin/sleep", "600"], env=rig.environment)
    state = rig.worker("two") / "r1ci/probe-1/.job"
    state.mkdir(parents=True)
    (state / "pid").write_text(f"{other.pid}\n")
    done = rig.launch(*by_ssh(rig))
    assert done.returncode == 0, done.stderr
    assert other.poll() is None
    other.kill()
    other.wait()


def test_queued_resource_from_order_to_return(rig: Rig) -> None:
    (rig.folder / "states").write_text("WAITING_FOR_RESOURCES PROVISIONING ACTIVE")
    rig.tell("0-2", 75)
    done = rig.launch(*QUEUED, "--delete")
    assert done.returncode == 0, done.stderr
    verbs = [call[4] for call in rig.calls() if call[0] == "gcloud"]
    assert verbs[:5] == ["create", "describe", "describe", "describe", "scp"]
    assert verbs[-1] == "delete"
    for worker in range(4):
        seen = rig.seen(f"0-{worker}")
        assert seen["R1CI_MULTIHOST"] == "1" and "R1CI_PROCESS_ID" not in seen
        assert (rig.worker(f"0-{worker}") / "r1ci/probe/marker.txt").exists()
    assert [len(rig.starts(f"0-{worker}")) for worker in range(4)] == [1, 1, 2, 1]


def test_every_worker_of_every_slice_is_started_and_waited_for(rig: Rig) -> None:
    rig.environment |= {"LAUNCH_SLICES": "2"}
    rig.tell("1-3", 4)
    done = rig.launch("experiments/probe.py:sliced", *QUEUED[1:], "--reuse")
    assert done.returncode == 2 and "exit status 4: gcloud" in done.stderr
    assert all(len(rig.starts(f"{n}-{w}")) == 1 for n in range(2) for w in range(4))
    verbs = [call[4] for call in rig.calls() if call[0] == "gcloud"]
    assert "create" not in verbs and "delete" not in verbs
    assert done.stderr.count("launch_worker.sh stop") == 1, "how to stop it by hand is said too"


@pytest.mark.parametrize("more", [(), ("--delete",)])
def test_queued_resource_that_is_never_had_ends_the_launch(rig: Rig, more: tuple[str, ...]) -> None:
    (rig.folder / "states").write_text("WAITING_FOR_RESOURCES FAILED")
    done = rig.launch(*QUEUED, *more)
    # What was ordered may come and cost money; there is no job to follow or to stop.
    assert done.stderr.count("queued-resources delete probe") == 1
    assert "Follow the log again." not in done.stderr and "Stop it" not in done.stderr
    assert done.returncode == 2 and "probe is FAILED" in done.stderr
    assert "step 4 of" in done.stderr.splitlines()[-1]
    assert not (rig.folder / "workers").exists()


def test_xpk_workload_is_restarted_as_a_whole(rig: Rig) -> None:
    rig.tell(1, 75)
    done = rig.launch(*XPK, "--restarts=5")
    assert done.returncode == 0, done.stderr
    assert [len(rig.starts(pod)) for pod in range(4)] == [2, 2, 2, 2]
    assert all(rig.seen(pod)["R1CI_MULTIHOST"] == "1" for pod in range(4))
    assert (rig.worker(0) / "app/marker.txt").exists()


def test_xpk_workload_that_fails_is_not_restarted(rig: Rig) -> None:
    rig.tell(2, 1)
    done = rig.launch(*XPK)
    assert done.returncode == 2 and "failed with exit status 125: xpk workload list" in done.stderr
    assert len(rig.starts(2)) == 1


def test_signal_of_kubernetes_reaches_the_command(rig: Rig) -> None:
    """A pod that is taken away saves a checkpoint and exits 75."""
    rig.tell("pod", "hang")
    app = rig.worker("pod") / "app"
    subprocess.run(["git", "worktree", "add", "--quiet", app], cwd=rig.checkout, check=True)
    dry = rig.launch(*XPK, "--dry-run", "--json")
    (create,) = (
        command
        for step in json.loads(dry.stdout)["steps"]
        for command in step["commands"]
        if command[:3] == ["xpk", "workload", "create"]
    )
    line = create[-1].removeprefix("--command=")
    pod = subprocess.Popen(
        ["bash", "-c", f"({line}) & PID=$!; trap 'kill -TERM $PID' TERM; wait $PID; wait $PID"],
        cwd=app,
        env={**rig.environment, "HOME": str(rig.worker("pod"))},
    )
    wait_until((rig.worker("pod") / "trapped").exists)
    pod.terminate()
    assert pod.wait(timeout=PATIENCE) == 75
    assert (rig.worker("pod") / "saved").exists()


BLIND = """
mkdir -p .venv/bin
cat >.venv/bin/python <<'END'
#!/bin/sh
echo "$*" >>"$HOME/python-calls"
case "$*" in *default_backend*) exit 1 ;; esac
END
cp scripts/fake_r1ci.sh .venv/bin/r1ci
chmod +x .venv/bin/python .venv/bin/r1ci
"""


def test_machine_whose_gpu_jax_does_not_see_is_refused(rig: Rig) -> None:
    """On a machine without nvidia-smi the same JAX is right: there the other tests run."""
    rig.environment.pop("JAX_PLATFORMS", None)  # the tests' own
    (rig.checkout / "scripts/bootstrap.sh").write_text(BLIND)
    smi = rig.folder / "bin/nvidia-smi"
    smi.write_text("#!/bin/sh\nexit 0\n")
    smi.chmod(0o755)
    rig.git("commit", "--quiet", "--all", "--message=blind")
    done = rig.launch(*by_ssh(rig), "--extras=cuda")
    assert done.returncode == 2 and "a GPU that JAX does not see" in done.stderr
    assert rig.starts("me@one") == rig.starts("two") == []
    installs = (rig.worker("two") / "python-calls").read_text().splitlines()
    assert any(line.startswith("-m pip") and line.endswith("-e .[cuda]") for line in installs)
    # Whoever wants the processors says so.
    done = rig.launch(*by_ssh(rig), "--env=JAX_PLATFORMS=cpu")
    assert done.returncode == 0, done.stderr
    assert len(rig.starts("two")) == 1
