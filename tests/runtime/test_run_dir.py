"""Run directories: resumed or refused, one process at a time."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import pytest

from r1ci_jax.config import DatasetConfig, Experiment, MeshConfig, SftConfig
from r1ci_jax.errors import UserError
from r1ci_jax.runtime import atomic_files, run_dir

EXPERIMENT = Experiment(name="tiny", dataset=DatasetConfig(tasks=("toy_gcd_lcm",)))


def test_new_directory_says_what_ran(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "run"
    with run_dir.RunDir.open(path, EXPERIMENT, changes={"sft.lr": (1e-5, 1e-3)}) as run:
        run.record_environment(devices=["cpu"], sandbox_tier="nsjail")
    config = json.loads((path / "config.json").read_text())
    assert config["experiment"]["dataset"]["tasks"] == ["toy_gcd_lcm"]
    assert config["changes"] == {"sft.lr": [1e-5, 1e-3]}
    assert config["devices"] == ["cpu"] and config["sandbox_tier"] == ["nsjail"]
    assert set(config["packages"]) == set(run_dir.PACKAGES)


def test_machine_of_a_resumed_run_is_added(tmp_path: Path) -> None:
    for device in ("cpu", "TPU v5", "cpu"):
        with run_dir.RunDir.open(tmp_path, EXPERIMENT) as run:
            run.record_environment(devices=[device])
    assert run_dir.RunDir.view(tmp_path).config["devices"] == ["cpu", "TPU v5"]


def test_same_config_resumes_with_its_finished_stages(tmp_path: Path) -> None:
    with run_dir.RunDir.open(tmp_path, EXPERIMENT) as run:
        run.mark_finished("data")
        run.mark_finished("sft", steps=12)
    with run_dir.RunDir.open(tmp_path, EXPERIMENT) as run:
        assert list(run.finished_stages()) == ["data", "sft"]
        assert run.is_finished("sft") and not run.is_finished("grpo")
        assert run.finished_stages()["sft"]["steps"] == 12


def test_other_config_is_refused_with_the_keys_and_ways_out(tmp_path: Path) -> None:
    run_dir.RunDir.open(tmp_path, EXPERIMENT).close()
    other = dataclasses.replace(EXPERIMENT, seed=7, sft=SftConfig(lr=0.5))
    with pytest.raises(UserError) as caught:
        run_dir.RunDir.open(tmp_path, other)
    message = str(caught.value)
    assert "seed (there 0, now 7)" in message and "sft.lr (there 1e-05, now 0.5)" in message
    assert "--workdir" in message and "delete" in message and "\n" not in message
    run_dir.RunDir.open(tmp_path, EXPERIMENT).close()  # the refusal released the lock


def test_an_old_run_is_answered_with_the_new_name(tmp_path: Path) -> None:
    run_dir.RunDir.open(tmp_path / "run", EXPERIMENT).close()
    file = tmp_path / "run/config.json"
    config = json.loads(file.read_text())
    config["experiment"]["questions"] = config["experiment"].pop("dataset")
    file.write_text(json.dumps(config))
    for use in (lambda: run_dir.RunDir.open(tmp_path / "run", EXPERIMENT),
                lambda: run_dir.RunDir.view(tmp_path / "run")):  # fmt: skip
        with pytest.raises(UserError) as caught:
            use()
        line = str(caught.value)
        assert line.startswith("questions.tasks was renamed to dataset.tasks: an earlier version")
        assert "choose another --workdir" in line and "\n" not in line


def test_a_run_resumes_on_another_mesh_which_is_recorded(tmp_path: Path) -> None:
    run_dir.RunDir.open(tmp_path, EXPERIMENT).close()
    moved = dataclasses.replace(EXPERIMENT, mesh=MeshConfig(fsdp=4))
    for _ in range(2):
        run_dir.RunDir.open(tmp_path, moved).close()
    config = run_dir.RunDir.view(tmp_path).config
    assert config["experiment"] == run_dir.to_plain(moved)
    assert config["earlier_meshes"] == [run_dir.to_plain(EXPERIMENT)["mesh"]]


def test_folder_with_other_files_is_refused_untouched(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(UserError, match="not a run"):
        run_dir.RunDir.open(tmp_path, EXPERIMENT)
    assert [entry.name for entry in tmp_path.iterdir()] == ["thesis.tex"]
    with pytest.raises(UserError, match="is a file"):
        run_dir.RunDir.open(tmp_path / "thesis.tex", EXPERIMENT)


def test_kill_while_the_config_was_written_does_no_harm(tmp_path: Path) -> None:
    (tmp_path / ".lock").touch()
    (tmp_path / ".config.json.part").write_text('{"experim')
    run_dir.RunDir.open(tmp_path, EXPERIMENT).close()
    assert run_dir.RunDir.view(tmp_path).config["experiment"]["name"] == "tiny"


def test_damaged_config_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(UserError, match="damaged"):
        run_dir.RunDir.open(tmp_path, EXPERIMENT)


def test_view_needs_a_run_and_takes_no_lock(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not a run directory"):
        run_dir.RunDir.view(tmp_path)
    with run_dir.RunDir.open(tmp_path, EXPERIMENT):
        assert run_dir.RunDir.view(tmp_path).config["experiment"]["name"] == "tiny"


def test_lock_dies_with_its_process(tmp_path: Path) -> None:
    run_dir.RunDir.open(tmp_path, EXPERIMENT).close()
    script = (
        "import sys, pathlib, time; from r1ci_jax.runtime import run_dir;"
        "handle = run_dir.lock_directory(pathlib.Path(sys.argv[1])); print('held', flush=True);"
        "time.sleep(600)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None and other.stdout.readline() == b"held\n"
        with pytest.raises(UserError, match=f"in use by process {other.pid}"):
            run_dir.RunDir.open(tmp_path, EXPERIMENT)
        other.kill()
    run_dir.RunDir.open(tmp_path, EXPERIMENT).close()


def test_differing_names_nested_and_absent_keys() -> None:
    left = {"a": 1, "b": {"c": 2, "d": 3}}
    right = {"a": 1, "b": {"c": 5}, "e": [1]}
    assert run_dir.find_differences(left, right) == {
        "b.c": (2, 5),
        "b.d": (3, None),
        "e": (None, [1]),
    }


def test_failed_atomic_write_keeps_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "stages.json"
    atomic_files.write_json(path, {"a": 1})
    with pytest.raises(UnicodeEncodeError):
        atomic_files.write_atomic(path, "\udc80")
    assert json.loads(path.read_text()) == {"a": 1}
    assert [entry.name for entry in tmp_path.iterdir()] == ["stages.json"]
