"""Checks of an experiment before anything that costs money is started."""

import dataclasses
import importlib.metadata
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from r1ci_jax.config import Experiment, MeshConfig
from r1ci_jax.data.scripted import taught_tasks
from r1ci_jax.errors import UserError
from r1ci_jax.runtime.bucket_mirror import is_url
from r1ci_jax.tasks import registry
from r1ci_jax.tasks.published_task import PublishedTask
from r1ci_jax.tools.tpu import Slice

NAME_PATTERN = re.compile(r"[a-z]([-a-z0-9]{0,38}[a-z0-9])?")
"""Names that Kubernetes, XPK and the TPU API all accept."""


def run_name(experiment: Experiment) -> str:
    """Make a job name from the experiment's name."""
    words = re.findall(r"[a-z0-9]+", experiment.name.lower())
    made = "-".join(words)[:40].rstrip("-")
    return made if NAME_PATTERN.fullmatch(made) else f"run-{made}"[:40].rstrip("-")


def check_name(name: str) -> None:
    """Refuse a job name that one of the services would refuse later.

    Raises:
        UserError: the name is not valid.
    """
    if not NAME_PATTERN.fullmatch(name):
        raise UserError(
            f"{name!r} is not a valid job name; use at most 40 lower-case letters, digits and "
            "dashes, a letter first and no dash at the end"
        )


def check_extras(extras: Sequence[str], *, has_tpu: bool) -> None:
    """Refuse extras that setup.py does not have, or that do not fit the accelerators.

    Raises:
        UserError: as said.
    """
    known = importlib.metadata.metadata("r1ci_jax").get_all("Provides-Extra") or []
    for extra in extras:
        if extra not in known:
            raise UserError(f"no extra {extra!r} to install; there are: {', '.join(known)}")
    if "cuda" in extras and (has_tpu or "tpu" in extras):
        raise UserError("--extras cuda is for GPUs, and the machines have TPUs; leave it out")


def check_mesh(experiment: Experiment, tpu: Slice) -> None:
    """Check that the mesh has one device per chip.

    Raises:
        UserError: it has not; the message suggests a mesh that fits.
    """
    mesh = experiment.mesh
    wanted = tpu.chips * mesh.slices
    if mesh.num_devices == wanted:
        return
    product = f"{mesh.slices} x {mesh.data} x {mesh.fsdp} x {mesh.tensor}"
    slices = f"{mesh.slices} x {tpu.name} have" if mesh.slices > 1 else f"{tpu.name} has"
    fitting = next(_fitting(experiment, tpu), None)
    advice = (
        f"use for example {_flags(mesh, fitting)}"
        if fitting
        else "no mesh of that size divides its batch and slots: change those, or use another slice"
    )
    raise UserError(
        f"the mesh of {experiment.name} has {mesh.num_devices} devices (slices x data x fsdp x "
        f"tensor = {product}) but {slices} {wanted} chips; {advice}"
    )


def _fitting(experiment: Experiment, tpu: Slice) -> Iterator[MeshConfig]:
    """Yield meshes of the slice that the experiment accepts, its own tensor axis first."""
    powers = [2**exponent for exponent in range(tpu.chips.bit_length())]
    for data in (1, experiment.mesh.data):
        for tensor in dict.fromkeys([experiment.mesh.tensor, *powers]):
            if tpu.chips % (data * tensor):
                continue
            mesh = dataclasses.replace(
                experiment.mesh, data=data, fsdp=tpu.chips // data // tensor, tensor=tensor
            )
            try:
                dataclasses.replace(experiment, mesh=mesh)
            except UserError:
                continue
            yield mesh


def _flags(present: MeshConfig, wanted: MeshConfig) -> str:
    return " ".join(
        f"--config.mesh.{axis}={getattr(wanted, axis)}"
        for axis in ("data", "fsdp", "tensor")
        if getattr(wanted, axis) != getattr(present, axis)
    )


def workdir_problem(workdir: str, *, shared_disk: bool) -> str | None:
    """Explain why a run in `workdir` could not be resumed, or return None.

    With `shared_disk` a path may be one that all workers see.
    """
    if found := re.fullmatch(r"gs://([^/]+)(/[^/]+)+", workdir):
        if re.fullmatch(r"[a-z0-9][-._a-z0-9]+[a-z0-9]", found[1]):
            return None
        if found[1] == "BUCKET":
            return f"put the name of your bucket in place of BUCKET in --workdir {workdir}"
        return (
            f"--workdir {workdir!r} names the bucket {found[1]!r}, and a bucket's name has three "
            "or more small letters, digits, dashes, dots or underscores; correct it"
        )
    if shared_disk and workdir.startswith(("/", "file:///")):
        return None
    or_path = ", or /PATH or file:///PATH on a disk that all workers share" if shared_disk else ""
    problem = f"unsupported --workdir {workdir!r}" if workdir else "--workdir is required"
    return f"{problem}: use --workdir gs://BUCKET/runs/NAME{or_path}"


def check_model(experiment: Experiment) -> None:
    """Refuse a model in a local folder, which the workers would not have.

    Raises:
        UserError: the checkpoint or the tokenizer is a folder of this machine.
    """
    for key in ("checkpoint", "tokenizer"):
        named = getattr(experiment.model, key)
        if named and Path(named).is_dir():
            raise UserError(
                f"model.{key} = {named} is a folder of this machine, which workers do not have; "
                "name a model of the Hugging Face hub"
            )


def needs_published_data(experiment: Experiment) -> bool:
    """True if a task has published questions, which each worker must download first."""
    return any(isinstance(registry.get(name), PublishedTask) for name in experiment.dataset.tasks)


def demonstrations_problem(experiment: Experiment, *, shared_disk: bool) -> str | None:
    """Explain why the workers would have no demonstrations, or return None.

    With `shared_disk` a path may be one that all workers see.
    """
    path = experiment.demonstrations.path
    if not path:
        try:
            taught_tasks.without_teacher(experiment)
        except UserError as error:
            return str(error)
    elif not is_url(path) and not (shared_disk and path.startswith("/")):
        return (
            f"demonstrations.path = {path} is a file of this machine, which workers do not "
            "have; copy it to gs://BUCKET and name that"
        )
    return None
