"""Trajectories as JSON, exactly: to carry them over, to keep them, to train on them again.

`Replay` stands in for a `Runner`: it hands out what an earlier run dumped, so a trainer can be
debugged, profiled or compared without a sampler and a sandbox.
"""

import base64
import dataclasses
import gzip
import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from r1ci_jax.config import SamplerConfig
from r1ci_jax.errors import UserError
from r1ci_jax.model.qwen2 import DecoderWeights
from r1ci_jax.rollout.episode import Episode, PartialRollout, Request
from r1ci_jax.rollout.trajectory import CodeCall, StopReason, Trajectory
from r1ci_jax.runtime import atomic_files
from r1ci_jax.sandbox import ExecResult, Status


def code_call_to_json(turn: CodeCall) -> dict[str, Any]:
    """A turn as JSON."""
    return {"code": turn.code, "result": result_to_json(turn.result)}


def code_call_from_json(row: dict[str, Any]) -> CodeCall:
    """The inverse of `code_call_to_json`."""
    return CodeCall(code=row["code"], result=result_from_json(row["result"]))


def result_to_json(result: ExecResult) -> dict[str, Any]:
    """What a script did, as JSON."""
    files = {name: base64.b64encode(data).decode() for name, data in result.files.items()}
    return {**dataclasses.asdict(result), "files": files}


def result_from_json(row: dict[str, Any]) -> ExecResult:
    """The inverse of `result_to_json`."""
    files = {name: base64.b64decode(data) for name, data in row["files"].items()}
    return ExecResult(**{**row, "status": Status(row["status"]), "files": files})


def trajectory_to_json(trajectory: Trajectory) -> dict[str, Any]:
    """A trajectory as JSON; floats keep every bit."""
    row = {f.name: getattr(trajectory, f.name) for f in dataclasses.fields(trajectory)}
    # Lists, as they read back: what a checkpoint holds must equal what was handed in.
    lists = {name: list(row[name]) for name in ("rollout_id", "tokens", "sampled", "logprobs")}
    return {
        **row,
        **lists,
        "code_calls": [code_call_to_json(turn) for turn in trajectory.code_calls],
    }


def trajectory_from_json(row: dict[str, Any]) -> Trajectory:
    """The inverse of `trajectory_to_json`."""
    group_id, sample_index = row["rollout_id"]
    return Trajectory(
        **{
            **row,
            "rollout_id": (group_id, sample_index),
            "tokens": tuple(row["tokens"]),
            "sampled": tuple(row["sampled"]),
            "logprobs": tuple(row["logprobs"]),
            "code_calls": tuple(code_call_from_json(turn) for turn in row["code_calls"]),
            "stop": StopReason(row["stop"]),
        }
    )


def write(path: Path, trajectories: Sequence[Trajectory]) -> None:
    """One step's trajectories as gzipped JSON lines, whole or not at all."""
    lines = (json.dumps(trajectory_to_json(trajectory)) + "\n" for trajectory in trajectories)
    path.parent.mkdir(parents=True, exist_ok=True)
    # No time in the header: the same trajectories give the same bytes.
    atomic_files.write_atomic(path, gzip.compress("".join(lines).encode("ascii"), mtime=0))


def read(path: Path) -> list[Trajectory]:
    """What `write` wrote.

    Raises:
        UserError: the file is missing or is no dump.
    """
    try:
        lines = gzip.decompress(path.read_bytes()).decode("ascii").splitlines()
        return [trajectory_from_json(json.loads(line)) for line in lines]
    except FileNotFoundError:
        raise UserError(
            f"{path} does not exist: dump rollouts first (grpo.dump_rollouts)"
        ) from None
    except (OSError, EOFError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is no dump of rollouts ({error}); delete it") from error


def step_path(directory: Path, step: int) -> Path:
    """Where the rollouts of a step lie; steps count from 1, as in metrics.jsonl."""
    return directory / f"step_{step:06d}.jsonl.gz"


class Replay:
    """Hands out dumped trajectories in place of a runner."""

    def __init__(self, directory: Path) -> None:
        """`directory` is that of `dump.write`."""
        if not directory.is_dir():
            raise UserError(
                f"{directory} holds no dumped rollouts (grpo.dump_rollouts writes them)"
            )
        self._directory = directory
        self._files = sorted(directory.glob("step_*.jsonl.gz"))
        self._known: dict[tuple[int, int], Trajectory] = {}
        self.waited_seconds = 0.0
        self.sampler = SamplerConfig()

    def load(self, weights: DecoderWeights) -> None:
        """Nothing is sampled, so the weights are not kept."""

    def unload(self) -> None:
        """There are none."""

    def warm_up(self) -> None:
        """Nothing is compiled."""

    def run(
        self, requests: Iterable[Request], *, on_done: Callable[[int], None] | None = None
    ) -> list[Trajectory]:
        """The dumped trajectories of these requests, in their order.

        Raises:
            UserError: one was never dumped, or answered another question.
        """
        found = []
        for request in requests:
            while request.rollout_id not in self._known and self._files:
                dumped = read(self._files.pop(0))
                self._known |= {trajectory.rollout_id: trajectory for trajectory in dumped}
            trajectory = self._known.pop(request.rollout_id, None)
            if trajectory is None or trajectory.example_id != request.example.id:
                raise UserError(
                    f"{self._directory} has no rollout {request.rollout_id} of question "
                    f"{request.example.id}: it was dumped by another experiment or seed"
                )
            found.append(trajectory)
        if on_done is not None:
            on_done(len(found))
        return found

    def run_groups(
        self, requests: Iterable[Request], partial: Sequence[PartialRollout], *, step: int
    ) -> tuple[list[Trajectory], list[PartialRollout]]:
        """What `carry.run_groups` gave in this step (from 0), and everything else in flight.

        Raises:
            UserError: the dump of the step holds something that is not in flight.
        """
        known = list(partial)
        known += [
            PartialRollout(
                first_step=step, episode=Episode(index=0, request=request), trajectory=None
            )
            for request in requests
        ]
        asked = {
            entry.episode.request.rollout_id: entry.episode.request.example.id for entry in known
        }
        path = step_path(self._directory, step + 1)
        trained = read(path)
        for trajectory in trained:
            if asked.get(trajectory.rollout_id) != trajectory.example_id:
                raise UserError(
                    f"{path} holds rollout {trajectory.rollout_id} of question "
                    f"{trajectory.example_id}, which this training has not asked: it was dumped by "
                    "another experiment or seed"
                )
        taken = {trajectory.rollout_id for trajectory in trained}
        return trained, [entry for entry in known if entry.episode.request.rollout_id not in taken]
