"""What `r1ci launch --dry-run` prints, word for word, and what it refuses before anything starts.

To renew the golden files after a change that is meant: run this file with RENEW_GOLDEN=1, then read
the diff.
"""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from r1ci_jax.cli.main import main
from tests.tools.launch_rig import Rig

GOLDEN = Path(__file__).parent / "golden"
BUCKET = "--workdir=gs://a-bucket/runs/probe"
PLACE = ("--zone=us-east5-a", "--project=a-project")

LAUNCHES = {
    "queued": ("experiments/probe.py", "--tpu=v5p-32", BUCKET, *PLACE, "--create-flags=--spot"),
    "queued_two_slices": (
        *("experiments/probe.py:sliced", "--tpu=v5p-32", BUCKET, "--name=twice", "--delete"),
        *("--stage=grpo", "--env=LIBTPU_INIT_ARGS=--one --two", "--config.grpo.lr=2e-6"),
        "--ssh-flags=--tunnel-through-iap",
    ),
    "xpk": (
        *("experiments/probe.py:sliced", "--tpu=v5p-32", BUCKET, *PLACE, "--via=xpk"),
        *("--cluster=a-cluster", "--restarts=3", "--create-flags=--priority=high"),
    ),
    "ssh": (
        *("experiments/probe.py:small", "--via=ssh", "--hosts=me@one,two", "--port=9000"),
        *("--workdir=/shared/runs/probe", "--config.dataset.tasks=toy_sorting,toy_letters"),
    ),
}


class Here(Rig):
    """Launches in this process, which is quicker; nothing in this file gets as far as a worker."""

    def __init__(
        self, folder: Path, patch: pytest.MonkeyPatch, captured: pytest.CaptureFixture[str]
    ) -> None:
        super().__init__(folder)
        self._captured = captured
        patch.chdir(self.checkout)
        patch.setenv("PATH", self.environment["PATH"])

    def launch(self, *words: str) -> subprocess.CompletedProcess[str]:
        status = main(["launch", *words])
        return subprocess.CompletedProcess(words, status, *self._captured.readouterr())


@pytest.fixture
def rig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Rig:
    return Here(tmp_path, monkeypatch, capsys)


@pytest.mark.parametrize("name", LAUNCHES)
def test_dry_run_prints_these_commands_and_starts_none(rig: Rig, name: str) -> None:
    done = rig.launch(*LAUNCHES[name], "--dry-run")
    assert done.returncode == 0, done.stderr
    assert rig.calls() == []
    shown = done.stdout.replace(rig.git("rev-parse", "HEAD"), "COMMIT")
    golden = GOLDEN / f"launch_{name}.txt"
    if os.environ.get("RENEW_GOLDEN"):
        golden.write_text(shown)
    assert shown == golden.read_text()


def test_json_has_the_same_commands_word_by_word(rig: Rig) -> None:
    done = rig.launch(*LAUNCHES["queued"], "--dry-run", "--json")
    facts = json.loads(done.stdout)
    assert facts["tpu"] == {
        "type": "v5p-32",
        "slices": 1,
        "chips": 16,
        "hosts": 4,
        "topology": "v5p:2x2x4",
    }
    assert facts["workdir"] == "gs://a-bucket/runs/probe" and facts["via"] == "queued"
    golden = (GOLDEN / "launch_queued.txt").read_text()
    numbered = re.findall(r"^# \d+\. (.*)$", golden, re.M)
    assert [
        step["description"].replace(facts["revision"], "COMMIT") for step in facts["steps"]
    ] == numbered
    assert ["gcloud", "compute", "tpus", "queued-resources", "create"] in [
        command[:5] for step in facts["steps"] for command in step["commands"]
    ]


def test_dry_run_without_a_workdir_says_what_is_missing(rig: Rig) -> None:
    done = rig.launch("experiments/probe.py", "--tpu=v5p-32", "--dry-run")
    assert done.returncode == 0
    assert "before a real launch: --workdir is required" in done.stderr
    assert "--workdir gs://BUCKET/runs/probe" in done.stdout


def test_published_tasks_need_a_download_and_demonstrations(rig: Rig) -> None:
    words = ("experiments/probe.py", "--tpu=v5p-32", BUCKET, "--dry-run")
    assert "R1CI_FETCH" not in rig.launch(*words).stdout
    done = rig.launch(*words, "--config.dataset.tasks=bbh_snarks,toy_sorting")
    assert done.returncode == 0 and "R1CI_FETCH=1" in done.stdout
    assert "before a real launch: 1 of the tasks have no scripted teacher" in done.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "name the TPUs: --tpu v5p-32"),
        (("--tpu=v5p-32",), "--workdir is required"),
        (("--tpu=v5p-32", "--workdir=runs/x"), "unsupported --workdir 'runs/x'"),
        (("--tpu=v5p-64", BUCKET), "has 16 devices"),
        (("--tpu=v5p-33", BUCKET), "nearest: v5p-32 and v5p-64"),
        (("--tpu=v5p-32", BUCKET, "--via=xpk"), "needs --cluster"),
        (("--tpu=v5p-32", BUCKET, "--via=ssh"), "needs --hosts"),
        (
            ("--tpu=v5p-32", BUCKET, "--via=ssh", "--hosts=a,b"),
            "has 4 machines but --hosts names 2",
        ),
        (("--tpu=v5p-32", BUCKET, "--hosts=a"), "--hosts does not apply to --via queued"),
        (("--tpu=v5p-32", BUCKET, "--extras=cuda"), "--extras does not apply to --via queued"),
        ((BUCKET, "--via=ssh", "--hosts=a", "--extras=cuba"), "no extra 'cuba' to install"),
        (("--tpu=v5p-32", BUCKET, "--name=A B"), "not a valid job name"),
        (("--tpu=v5p-32", BUCKET, "--env=oops"), "not of the form NAME=value"),
        (("--tpu=v5p-32", BUCKET, "--config.mesh.fdsp=4"), "unknown option --config.mesh.fdsp"),
        (("--tpu=v5p-32", BUCKET, "--stage=all"), "--stage 'all' is none of: run, sft"),
    ],
)
def test_mistakes_are_one_line_and_cost_nothing(
    rig: Rig, words: tuple[str, ...], said: str
) -> None:
    done = rig.launch("experiments/probe.py", *words)
    assert done.returncode == 2
    assert said in done.stderr and len(done.stderr.splitlines()) == 1
    assert rig.calls() == []


def test_xpk_gets_no_value_that_its_manifest_would_mangle(rig: Rig) -> None:
    words = (*LAUNCHES["xpk"], "--dry-run")
    assert "cannot pass A=say" in rig.launch(*words, '--env=A=say "x"').stderr


def test_missing_program_is_named_before_anything_starts(rig: Rig) -> None:
    (rig.folder / "bin" / "gcloud").unlink()
    done = rig.launch(*LAUNCHES["queued"])
    assert done.returncode == 2 and "gcloud is not on PATH" in done.stderr
    assert not (rig.checkout / ".cache").exists()


def test_uncommitted_changes_are_refused(rig: Rig) -> None:
    (rig.checkout / "marker.txt").write_text("changed\n")
    done = rig.launch(*LAUNCHES["queued"])
    assert done.returncode == 2
    assert "uncommitted changes (marker.txt): commit them" in done.stderr
    assert rig.calls() == []
    dry = rig.launch(*LAUNCHES["queued"], "--dry-run")
    assert dry.returncode == 0 and "before a real launch" in dry.stderr


def test_experiment_that_git_does_not_know_is_refused(rig: Rig) -> None:
    (rig.checkout / "experiments" / "new.py").write_text(
        (rig.checkout / "experiments" / "probe.py").read_text()
    )
    done = rig.launch("experiments/new.py", "--tpu=v5p-32", BUCKET)
    assert "experiments/new.py is not among the tracked files: git add it" in done.stderr
    rig.git("add", "experiments/new.py")
    dry = rig.launch("experiments/new.py", "--tpu=v5p-32", BUCKET, "--dirty", "--dry-run")
    assert dry.returncode == 0 and dry.stderr == ""


def test_rig_reaches_no_real_cloud(rig: Rig) -> None:
    for name in ("gcloud", "xpk", "ssh", "scp"):
        path = rig.folder / "bin" / name
        assert shutil.which(name, path=rig.environment["PATH"]) == str(path)
        path.unlink()
        assert shutil.which(name, path=rig.environment["PATH"]) is None


def test_experiment_outside_the_checkout_is_refused(rig: Rig) -> None:
    outside = rig.folder / "outside.py"
    outside.write_text((rig.checkout / "experiments" / "probe.py").read_text())
    done = rig.launch(str(outside), "--tpu=v5p-32", BUCKET, "--dry-run")
    assert "is outside the checkout" in done.stderr and done.returncode == 2
