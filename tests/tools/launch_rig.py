"""A checkout to launch, and programs that stand for gcloud, xpk, ssh and scp.

The programs note how they were called and really carry out what they are told, with a folder for
each worker's disk. Two things are stood in for on a worker: the set-up's downloads, and r1ci.
"""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

from tests.load import PATIENCE

ROOT = Path(__file__).parents[2]

# All that a launch and a worker's script may find. A machine that runs these tests may have the
# real gcloud, with an account that it would be used with.
TOOLS = (
    *("bash", "cat", "chmod", "cp", "dirname", "env", "find", "git", "grep", "gzip", "hostname"),
    *("id", "mkdir", "rm", "sed", "setsid", "sh", "tail", "tar", "wc"),
)

EXPERIMENT = """
from r1ci_jax.config import *

VARIANTS = ("", "sliced", "small")

def get_config(variant=""):
    meshes = {
        "": MeshConfig(fsdp=16),
        "sliced": MeshConfig(slices=2, fsdp=16),
        "small": MeshConfig(fsdp=4),
    }
    return Experiment(
        name="probe",
        dataset=DatasetConfig(tasks=("toy_sorting",)),
        mesh=meshes[variant],
        sampler=SamplerConfig(slots=96),
        sft=SftConfig(batch_size=96),
    )
"""

# In place of the packages' installation: r1ci notes what it sees, and does as its HOME says.
BOOTSTRAP = """
mkdir -p .venv/bin
printf '#!/bin/sh\\nexit 0\\n' >.venv/bin/python
cp scripts/fake_r1ci.sh .venv/bin/r1ci
chmod +x .venv/bin/python .venv/bin/r1ci
"""

R1CI = """#!/bin/sh
[ "$1" != sandbox ] || exit 0
echo "$*" >>"$HOME/starts"
env >"$HOME/environment"
start=$(wc -l <"$HOME/starts")
status=$(sed -n "${start}p" "$HOME/statuses" 2>/dev/null)
if [ "$status" = hang ]; then
    trap 'echo saved >"$HOME/saved"; exit 75' TERM
    : >"$HOME/trapped"
    while kill -0 "$LAUNCH_OWNER" 2>/dev/null; do sleep 1; done  # not longer than the tests
fi
if [ -n "$PROBE_SCRIPT" ] && [ "${status:-0}" = 0 ]; then "$PROBE_PYTHON" "$PROBE_SCRIPT" "$@"; fi
exit "${status:-0}"
"""

PREAMBLE = f"""#!{sys.executable} -IS
import json, os, shutil, subprocess, sys
RIG = os.environ["LAUNCH_RIG"]
program = os.path.basename(sys.argv[0])
words = sys.argv[1:]
with open(f"{{RIG}}/calls.jsonl", "a") as calls:
    calls.write(json.dumps([program, *words]) + "\\n")

def home(worker):
    path = f"{{RIG}}/workers/{{worker}}"
    os.makedirs(path, exist_ok=True)
    return path

def shell(worker, line, cwd=None, env={{}}):
    where = home(worker)
    environment = {{**os.environ, "HOME": where, **env}}
    return subprocess.Popen(["sh", "-c", line], cwd=cwd or where, env=environment)

def ended(processes):
    return max(abs(process.wait()) for process in processes)

options = dict(word[2:].split("=", 1) for word in words if word.startswith("--") and "=" in word)
"""

SSH = """
while words[0].startswith("-"):
    words = words[2:] if words[0] == "-o" else words[1:]
sys.exit(ended([shell(words[0], words[1])]))
"""

SCP = """
host, _, target = words[-1].partition(":")
shutil.copy(words[-2], f"{home(host)}/{target}")
"""

GCLOUD = """
assert words[:3] == ["compute", "tpus", "queued-resources"], words
verb, states = words[3], f"{RIG}/states"
slices, hosts = int(os.environ["LAUNCH_SLICES"]), int(os.environ["LAUNCH_HOSTS"])
def chosen(option, count):
    return range(count) if options[option] == "all" else [int(options[option])]
def workers():
    return [f"{n}-{w}" for n in chosen("node", slices) for w in chosen("worker", hosts)]
if verb == "describe":
    left = open(states).read().split() if os.path.exists(states) else ["ACTIVE"]
    print(left[0])
    with open(states, "w") as file:
        file.write(" ".join(left[1:] or left))
elif verb == "scp":
    name, _, target = words[5].partition(":")
    for worker in workers():
        shutil.copy(words[4], f"{home(worker)}/{target}")
elif verb == "ssh":
    sys.exit(ended([shell(worker, options["command"]) for worker in workers()]))
else:
    assert verb in ("create", "delete"), verb
"""

# Kubernetes starts all pods of a job again while one exits with a status that is named for it.
XPK = """
if words[:2] == ["workload", "create"]:
    pods = int(os.environ["LAUNCH_HOSTS"]) * int(options["num-slices"])
    settings = [word.removeprefix("--env=") for word in words if word.startswith("--env=")]
    env = dict(setting.split("=", 1) for setting in settings)
    for attempt in range(1 + int(options["max-restarts"])):
        running = []
        for pod in range(pods):
            app = f"{home(pod)}/app"
            shutil.rmtree(app, ignore_errors=True)
            shutil.copytree(options["script-dir"], app)
            running.append(shell(pod, f"({options['command']})", cwd=app, env=env))
        status = ended(running)
        if status != int(options["restart-on-exit-codes"]):
            break
    with open(f"{RIG}/job-status", "w") as file:
        file.write(str(status))
else:
    assert words[:2] == ["workload", "list"], words
    sys.exit(0 if open(f"{RIG}/job-status").read() == "0" else 125)
"""

SLEEP = """
import time
time.sleep(0.05)
"""


def end_workers(folder: Path) -> None:
    """End every process that a launch of this folder has left, also when a test was aborted."""
    mark = b"LAUNCH_RIG=" + os.fsencode(folder) + b"\0"
    for place in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended meanwhile, or is another user's
            if mark in (place / "environ").read_bytes():
                os.kill(int(place.name), signal.SIGKILL)


class Rig:
    """The checkout, and what became of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.checkout = folder / "checkout"
        self.environment = {
            **os.environ,
            "PATH": f"{folder / 'bin'}:{folder / 'tools'}",
            "LAUNCH_RIG": str(folder),
            "LAUNCH_OWNER": str(os.getpid()),
            "LAUNCH_SLICES": "1",
            "LAUNCH_HOSTS": "4",
            "PYTHONPATH": str(ROOT),
            "PROBE_PYTHON": sys.executable,
            "PROBE_SCRIPT": "",
            "GIT_CONFIG_GLOBAL": "/dev/null",
        }
        self._make_programs()
        self._make_checkout()

    def _make_programs(self) -> None:
        (self.folder / "tools").mkdir()
        for name in TOOLS:
            found = shutil.which(name)
            assert found is not None, f"these tests need {name}"
            (self.folder / "tools" / name).symlink_to(found)
        (self.folder / "bin").mkdir()
        programs = {"ssh": SSH, "scp": SCP, "gcloud": GCLOUD, "xpk": XPK, "sleep": SLEEP}
        for name, body in programs.items():
            path = self.folder / "bin" / name
            path.write_text((PREAMBLE if name != "sleep" else f"#!{sys.executable} -IS\n") + body)
            path.chmod(0o755)

    def _make_checkout(self) -> None:
        files = {
            "experiments/probe.py": EXPERIMENT,
            "scripts/bootstrap.sh": BOOTSTRAP,
            "scripts/find_python.sh": "exit 0\n",
            "scripts/fake_r1ci.sh": R1CI,
            "marker.txt": "committed\n",
            ".gitignore": ".cache/\n",
        }
        for name, content in files.items():
            path = self.checkout / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(textwrap.dedent(content))
        shutil.copy(ROOT / "scripts/launch_worker.sh", self.checkout / "scripts")
        self.git("init", "--quiet", "--initial-branch=main")
        self.git("add", ".")
        self.git("commit", "--quiet", "--message=all")

    def git(self, *words: str) -> str:
        identity = ("-c", "user.name=rig", "-c", "user.email=rig@localhost")
        done = subprocess.run(
            ["git", *identity, *words],
            cwd=self.checkout,
            env=self.environment,
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout.strip()

    def launch(self, *words: str) -> subprocess.CompletedProcess[str]:
        """`r1ci launch` as a user calls it, in the checkout."""
        return subprocess.run(
            [sys.executable, "-m", "r1ci_jax", "launch", *words],
            cwd=self.checkout,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )

    def calls(self) -> list[list[str]]:
        """Every call of a program, in order."""
        path = self.folder / "calls.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def worker(self, name: str | int) -> Path:
        """A worker's home directory."""
        path = self.folder / "workers" / str(name)
        path.mkdir(parents=True, exist_ok=True)
        return path

    def tell(self, name: str | int, *statuses: int | str) -> None:
        """How the starts of r1ci on a worker end, in order; further ones end well."""
        (self.worker(name) / "statuses").write_text("".join(f"{status}\n" for status in statuses))

    def starts(self, name: str | int) -> list[str]:
        """The arguments of each start of r1ci on a worker."""
        path = self.worker(name) / "starts"
        return path.read_text().splitlines() if path.exists() else []

    def seen(self, name: str | int) -> dict[str, str]:
        """The environment of the last start."""
        lines = (self.worker(name) / "environment").read_text().splitlines()
        return dict(line.split("=", 1) for line in lines if "=" in line)
