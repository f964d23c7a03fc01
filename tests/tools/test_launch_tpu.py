"""TPU slices by name, checked against numbers worked by hand, and what cannot be launched."""

import math
from pathlib import Path

import pytest

from r1ci_jax.config import (
    DatasetConfig,
    DemonstrationConfig,
    Experiment,
    MeshConfig,
    ModelConfig,
    SamplerConfig,
    SftConfig,
)
from r1ci_jax.errors import UserError
from r1ci_jax.tools import tpu
from r1ci_jax.tools.launch import checks


def experiment(mesh: MeshConfig, rows: int = 96) -> Experiment:
    return Experiment(
        name="R1CI 14B_long",
        dataset=DatasetConfig(tasks=("toy_sorting",)),
        mesh=mesh,
        sampler=SamplerConfig(slots=rows),
        sft=SftConfig(batch_size=rows),
    )


@pytest.mark.parametrize(
    ("name", "chips", "hosts", "pods", "topology", "image"),
    [
        # v5p and v4 count TensorCores, two per chip; four chips per machine.
        ("v5p-8", 4, 1, 1, "v5p:2x2x1", "v2-alpha-tpuv5"),
        ("v5p-32", 16, 4, 4, "v5p:2x2x4", "v2-alpha-tpuv5"),
        ("v5p-128", 64, 16, 16, "v5p:4x4x4", "v2-alpha-tpuv5"),
        ("v4-16", 8, 2, 2, "v4:2x2x2", "tpu-ubuntu2204-base"),
        # v5e and v6e count chips; up to eight are in one machine by the TPU API.
        ("v5litepod-8", 8, 1, 2, "v5e:2x4", "v2-alpha-tpuv5-lite"),
        ("v5litepod-16", 16, 4, 4, "v5e:4x4", "v2-alpha-tpuv5-lite"),
        ("v6e-8", 8, 1, 2, "v6e:2x4", "v2-alpha-tpuv6e"),
        ("v6e-64", 64, 16, 16, "v6e:8x8", "v2-alpha-tpuv6e"),
    ],
)
def test_slices(name: str, chips: int, hosts: int, pods: int, topology: str, image: str) -> None:
    found = tpu.find_slice(name)
    assert (found.name, found.chips, found.hosts, found.pods) == (name, chips, hosts, pods)
    assert (found.topology, found.image) == (topology, image)


def test_every_slice_has_the_chips_of_its_shape() -> None:
    assert len(tpu.SLICES) > 30
    for found in tpu.SLICES.values():
        assert math.prod(map(int, found.shape.split("x"))) == found.chips
        assert tpu.find_chip(found.topology).name == found.generation


def test_other_spellings_of_a_name() -> None:
    assert tpu.find_slice("v5e-16") is tpu.find_slice("v5litepod-16")
    assert tpu.find_slice("V5P-32").name == "v5p-32"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("v5p-24", "nearest: v5p-16 and v5p-32 (v5p counts TensorCores, two per chip)"),
        ("v5p-2", "nearest: v5p-8 "),
        ("v6e-1000", "nearest: v6e-256 (v6e counts chips)"),
        ("v5q-32", "did you mean v5p-32?"),
        ("h100", "names look like v5p-32"),
        ("v7x-8", "v7x (Ironwood)"),
        ("tpu7x-16", "--via ssh --extras tpu"),
    ],
)
def test_wrong_name_gets_the_nearest(name: str, said: str) -> None:
    with pytest.raises(UserError) as caught:
        tpu.find_slice(name)
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_mesh_must_have_one_device_per_chip() -> None:
    v5p = tpu.find_slice("v5p-32")
    checks.check_mesh(experiment(MeshConfig(fsdp=8, tensor=2)), v5p)
    checks.check_mesh(experiment(MeshConfig(slices=2, fsdp=16)), v5p)
    with pytest.raises(UserError, match=r"has 8 devices .*= 1 x 1 x 4 x 2\) but v5p-32 has 16"):
        checks.check_mesh(experiment(MeshConfig(fsdp=4, tensor=2)), v5p)
    with pytest.raises(UserError, match=r"2 x v5p-32 have 32 chips"):
        checks.check_mesh(experiment(MeshConfig(slices=2, fsdp=8)), v5p)


def test_suggested_mesh_is_one_that_the_experiment_accepts() -> None:
    v5p = tpu.find_slice("v5p-32")
    with pytest.raises(UserError, match=r"--config.mesh.fsdp=8$"):
        checks.check_mesh(experiment(MeshConfig(fsdp=4, tensor=2)), v5p)
    # 24 rows can be sharded 8 ways, not 16.
    with pytest.raises(UserError, match=r"--config.mesh.fsdp=8 --config.mesh.tensor=2$"):
        checks.check_mesh(experiment(MeshConfig(fsdp=4), rows=24), v5p)
    # Three slices shard 27 rows 3 ways; within a slice nothing but the tensor axis is left.
    with pytest.raises(UserError, match=r"--config.mesh.fsdp=1 --config.mesh.tensor=16$"):
        checks.check_mesh(experiment(MeshConfig(slices=3, fsdp=9), rows=27), v5p)


def test_names_are_made_of_what_every_service_takes() -> None:
    assert checks.run_name(experiment(MeshConfig())) == "r1ci-14b-long"
    checks.check_name("a" * 40)
    for name in ("", "14b", "a_b", "A", "a-", "a" * 41, "a b", "a;b"):
        with pytest.raises(UserError, match="not a valid job name"):
            checks.check_name(name)


def test_workdir_must_be_reachable_again() -> None:
    assert checks.workdir_problem("gs://a-bucket/runs/x", shared_disk=False) is None
    assert checks.workdir_problem("/shared/x", shared_disk=True) is None
    assert checks.workdir_problem("file:///shared/x", shared_disk=True) is None
    for wrong in ("", "runs/x", "/shared/x", "gs://a-bucket", "gs://a-bucket/", "s3://b/x"):
        problem = checks.workdir_problem(wrong, shared_disk=False)
        assert problem is not None and "--workdir gs://" in problem
    short = checks.workdir_problem("gs://b/runs/x", shared_disk=False)
    assert short is not None and "the bucket 'b', and a bucket's name has three or more" in short


def test_model_stored_on_this_machine_is_refused(tmp_path: Path) -> None:
    base = experiment(MeshConfig())
    fields = {"model": ModelConfig(preset="toy", checkpoint=str(tmp_path))}
    with pytest.raises(UserError, match="folder of this machine"):
        checks.check_model(Experiment(**{**vars(base), **fields}))


def test_workers_must_find_demonstrations() -> None:
    base = vars(experiment(MeshConfig()))

    def problem(*tasks: str, path: str = "", shared_disk: bool = False) -> str | None:
        fields = {
            "dataset": DatasetConfig(tasks=tasks),
            "demonstrations": DemonstrationConfig(path=path),
        }
        return checks.demonstrations_problem(
            Experiment(**{**base, **fields}), shared_disk=shared_disk
        )

    assert problem("toy_sorting") is None
    assert "have no scripted teacher" in str(problem("toy_sorting", "bbh_snarks"))
    assert problem("game24", path="gs://a-bucket/made.jsonl") is None
    assert problem("game24", path="/disk/made.jsonl", shared_disk=True) is None
    assert "copy it to gs://BUCKET" in str(problem("game24", path="/disk/made.jsonl"))
    assert "copy it to gs://BUCKET" in str(problem("game24", path="made.jsonl", shared_disk=True))


def test_small_v5e_slices_are_not_for_xpk() -> None:
    assert [s.name for s in tpu.SLICES.values() if s.pods == 0] == [
        "v5litepod-1",
        "v5litepod-4",
    ]
