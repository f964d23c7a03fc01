"""Results, trajectories and episodes as JSON and back, exactly: floats keep every bit.

What a checkpoint holds must equal what was handed in, so everything here is as JSON reads it back:
lists, not tuples.
"""

import base64
import dataclasses
import gzip
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from r1ci_jax.config import SamplingParams
from r1ci_jax.errors import UserError
from r1ci_jax.rollout.agents import Agent
from r1ci_jax.rollout.episode import Episode, Request
from r1ci_jax.rollout.trajectory import (
    CodeCall,
    RewardTerms,
    RolloutId,
    StopReason,
    Trajectory,
)
from r1ci_jax.runtime import atomic_files, json_reader
from r1ci_jax.sandbox import ExecResult, Status
from r1ci_jax.tasks.base import Example


def result_to_json(result: ExecResult) -> dict[str, Any]:
    """Convert the result of a script."""
    files = {name: base64.b64encode(data).decode() for name, data in result.files.items()}
    return {**dataclasses.asdict(result), "files": files}


def result_from_json(saved: dict[str, Any]) -> ExecResult:
    """Invert `result_to_json`."""
    files = {name: base64.b64decode(data) for name, data in saved["files"].items()}
    return ExecResult(**{**saved, "status": Status(saved["status"]), "files": files})


def code_call_to_json(code_call: CodeCall) -> dict[str, Any]:
    """Convert a code call."""
    return {"code": code_call.code, "result": result_to_json(code_call.result)}


def code_call_from_json(saved: dict[str, Any]) -> CodeCall:
    """Invert `code_call_to_json`."""
    return CodeCall(code=saved["code"], result=result_from_json(saved["result"]))


def trajectory_to_json(trajectory: Trajectory) -> dict[str, Any]:
    """Convert a trajectory; a mask is not stored, as it follows from the settings."""
    fields = {f.name: getattr(trajectory, f.name) for f in dataclasses.fields(trajectory)}
    del fields["is_masked"]
    lists = {name: list(fields[name]) for name in ("rollout_id", "tokens", "sampled", "logprobs")}
    terms = trajectory.reward_terms
    calls = [code_call_to_json(call) for call in trajectory.code_calls]
    starts = fields.pop("guide_starts")
    return {
        **fields,
        **lists,
        "reward_terms": None if terms is None else list(terms),
        "code_calls": calls,
        **_guide_to_json(starts),
    }


def trajectory_from_json(saved: dict[str, Any]) -> Trajectory:
    """Invert `trajectory_to_json`; what an earlier version did not store is None."""
    terms = saved.get("reward_terms")
    return Trajectory(
        **{
            **saved,
            "rollout_id": RolloutId(*saved["rollout_id"]),
            "tokens": tuple(saved["tokens"]),
            "sampled": tuple(saved["sampled"]),
            "logprobs": tuple(saved["logprobs"]),
            "code_calls": tuple(code_call_from_json(call) for call in saved["code_calls"]),
            "stop": StopReason(saved["stop"]),
            "reward_terms": None if terms is None else RewardTerms(*terms),
            "guide_starts": tuple(saved.get("guide_starts", ())),
        }
    )


def episode_to_json(episode: Episode) -> dict[str, Any]:
    """Convert a partial rollout; the copy may be written while the episode continues."""
    done = episode.trajectory
    return {
        "first_step": episode.first_step,
        "trajectory": None if done is None else trajectory_to_json(done),
        "example": dataclasses.asdict(episode.request.example),
        "agent": episode.request.agent.name,
        "rollout_id": list(episode.request.rollout_id),
        "sampling": dataclasses.asdict(episode.request.sampling),
        "tokens": list(episode.tokens),
        "sampled": list(episode.sampled),
        "logprobs": list(episode.logprobs),
        "num_prefix_tokens": episode.num_prefix_tokens,
        "turn_start": episode.turn_start,
        "code_calls": [code_call_to_json(call) for call in episode.code_calls],
        "num_tool_calls": episode.num_tool_calls,
        "messages": list(episode.messages),
        "num_answers": episode.num_answers,
        "seconds": episode.seconds_before,
        **_guide_to_json(episode.guide_starts),
    }


def _guide_to_json(starts: Sequence[int]) -> dict[str, Any]:
    """Convert where the guide's turns start; nothing is written of a trajectory without any."""
    return {"guide_starts": list(starts)} if starts else {}


def episode_from_json(saved: dict[str, Any], agent: Agent) -> Episode:
    """Invert `episode_to_json`; the episode is in no slot, and `agent` goes on with it."""
    assert saved["agent"] == agent.name, "another agent began the episode"
    request = Request(
        example=Example(**saved["example"]),
        agent=agent,
        rollout_id=RolloutId(*saved["rollout_id"]),
        sampling=SamplingParams(**saved["sampling"]),
    )
    done = saved["trajectory"]
    return Episode(
        request=request,
        tokens=list(saved["tokens"]),
        sampled=list(saved["sampled"]),
        logprobs=list(saved["logprobs"]),
        num_prefix_tokens=saved.get("num_prefix_tokens", 0),
        turn_start=saved["turn_start"],
        code_calls=[code_call_from_json(call) for call in saved["code_calls"]],
        num_tool_calls=saved.get("num_tool_calls", 0),
        messages=list(saved["messages"]),
        num_answers=saved["num_answers"],
        guide_starts=list(saved.get("guide_starts", ())),
        seconds_before=saved["seconds"],
        first_step=saved["first_step"],
        is_done=done is not None,
        trajectory=None if done is None else trajectory_from_json(done),
    )


def write(path: Path, trajectories: Sequence[Trajectory]) -> None:
    """Write one step's trajectories atomically, as gzipped JSON lines."""
    lines = (json.dumps(trajectory_to_json(trajectory)) + "\n" for trajectory in trajectories)
    path.parent.mkdir(parents=True, exist_ok=True)
    # No time in the header: the same trajectories give the same bytes.
    atomic_files.write_atomic(path, gzip.compress("".join(lines).encode("ascii"), mtime=0))


def read(path: Path) -> list[Trajectory]:
    """Read a file that `write` wrote.

    Raises:
        UserError: The file is missing, or is no dump of this version.
    """
    try:
        lines = gzip.decompress(path.read_bytes()).decode("ascii").splitlines()
        parsed = [json_reader.parse(line, path, allow_surrogates=True) for line in lines]
        return [trajectory_from_json(record) for record in parsed]
    except FileNotFoundError:
        raise UserError(
            f"{path} does not exist: dump rollouts first (grpo.dump_rollouts)"
        ) from None
    except (OSError, EOFError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path} is no dump of rollouts of this version ({error}); delete it and dump again"
        ) from error


def step_path(directory: Path, step: int) -> Path:
    """Path of the dump of a step; steps count from 1, as in metrics.jsonl."""
    return directory / f"step_{step:06d}.jsonl.gz"
