"""A checkpoint is whole or it is not there; what is restored is what was saved, bit for bit."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from r1ci_jax.errors import UserError
from r1ci_jax.train import checkpoint, checkpoint_dir, optimizer, train_state
from r1ci_jax.train.checkpoint import CheckpointManager
from tests.load import PATIENCE, at_most

METADATA = {"seed": 7, "data": {"position": [1, 2], "name": "größe"}, "curriculum": None}


def small_tree(value: float) -> dict[str, jax.Array]:
    return {"w": jnp.full((4, 3), value), "count": jnp.array(int(value), jnp.int32)}


def trained_state() -> train_state.TrainState:
    """An NNX state with optimiser moments that are not zero."""
    params = nnx.split(nnx.Linear(5, 3, rngs=nnx.Rngs(0)))[1]
    tx = optimizer.make_optimizer(optimizer.constant_schedule(0.1), clip_norm=1.0, weight_decay=0.1)
    state = train_state.init_state(params, tx)
    return train_state.apply_gradients(state, jax.tree.map(lambda x: x + 0.3, params), tx)


def assert_bit_equal(got, want) -> None:
    assert jax.tree.structure(got) == jax.tree.structure(want)
    for one, other in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        assert one.dtype == other.dtype
        assert np.asarray(one).tobytes() == np.asarray(other).tobytes()


def run_python(code: str, *arguments: str, **environment: str) -> subprocess.Popen[str]:
    root = Path(checkpoint.__file__).parents[2]
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=root,
        env=os.environ | environment,
    )


# --- round trip ----------------------------------------------------------------------------------


def test_restore_is_bit_exact_with_metadata(tmp_path):
    state = trained_state()
    with CheckpointManager(tmp_path / "checkpoints") as checkpoints:
        assert checkpoints.latest() is None
        checkpoints.save(12, state, METADATA)
        assert checkpoints.latest() == 12
        restored, metadata = checkpoints.restore(12, checkpoint.abstract(state))
    assert_bit_equal(restored, state)
    assert metadata == METADATA


def test_odd_values_survive(tmp_path):
    tree = {
        "nan": jnp.array([jnp.nan, -0.0, jnp.inf, 1e-45]),
        "half": jnp.arange(5, dtype=jnp.bfloat16),
        "nothing": None,
        "pair": (jnp.array(True), [jnp.array(3, jnp.uint32)]),
    }
    checkpoint.save_params(tmp_path / "params", tree)
    restored, metadata = checkpoint.load_params(tmp_path / "params", checkpoint.abstract(tree))
    assert_bit_equal(restored, tree)
    assert metadata == {}


def test_dtype_comes_from_the_abstract_tree(tmp_path):
    checkpoint.save_params(tmp_path / "params", {"w": jnp.arange(6.0)})
    wanted = {"w": jax.ShapeDtypeStruct((6,), jnp.bfloat16)}
    restored, _ = checkpoint.load_params(tmp_path / "params", wanted)
    assert_bit_equal(restored, {"w": jnp.arange(6.0).astype(jnp.bfloat16)})


def test_buffers_may_be_donated_while_the_save_runs(tmp_path):
    tree = {"w": jnp.arange(1 << 16, dtype=jnp.float32)}
    want = np.asarray(tree["w"]).copy()
    overwrite = jax.jit(lambda x: x * 0.0 - 1.0, donate_argnums=0)
    with CheckpointManager(tmp_path) as checkpoints:
        checkpoints.save(1, tree, {})
        overwrite(tree["w"]).block_until_ready()
        restored, _ = checkpoints.restore(1, {"w": jax.ShapeDtypeStruct(want.shape, want.dtype)})
    np.testing.assert_array_equal(restored["w"], want)


def test_the_last_steps_are_kept(tmp_path):
    with CheckpointManager(tmp_path, keep=2) as checkpoints:
        for step in (9, 10, 11):
            checkpoints.save(step, small_tree(step), {})
        checkpoints.wait()
        assert checkpoints.steps() == [10, 11]
        assert sorted(path.name for path in tmp_path.iterdir()) == ["10", "11"]


def test_params_are_replaced_whole(tmp_path):
    (tmp_path / "params.orbax-checkpoint-tmp").mkdir()  # of a process that was killed
    for value in (1.0, 2.0):
        checkpoint.save_params(tmp_path / "params", small_tree(value), {"value": value})
        restored, metadata = checkpoint.load_params(
            tmp_path / "params", checkpoint.abstract(small_tree(0.0))
        )
        assert_bit_equal(restored, small_tree(value))
        assert metadata == {"value": value}
    assert [path.name for path in tmp_path.iterdir()] == ["params"]


def test_a_save_of_a_million_parameters_takes_little_processor_time(tmp_path):
    state = train_state.init_state(
        {f"layer{i}": jnp.ones((64, 512)) for i in range(32)},
        optimizer.make_optimizer(optimizer.constant_schedule(0.1), clip_norm=1.0),
    )
    with CheckpointManager(tmp_path) as checkpoints:
        checkpoints.save(0, state, {})
        checkpoints.wait()
        for step in (1, 2, 3):
            with at_most(cpu_seconds=10.0):  # less than a tenth of a second, if nothing is amiss
                checkpoints.save(step, state, {})
                checkpoints.wait()


def test_restore_in_a_new_process_onto_another_mesh(tmp_path):
    tree = {"w": jnp.arange(64.0).reshape(8, 8), "step": jnp.array(3, jnp.int32)}
    with CheckpointManager(tmp_path) as checkpoints:
        checkpoints.save(3, tree, METADATA)
    child = run_python(
        """
        import sys, jax, jax.numpy as jnp, numpy as np
        from r1ci_jax.train.checkpoint import CheckpointManager, abstract
        types = (jax.sharding.AxisType.Auto,) * 2
        mesh = jax.make_mesh((4, 2), ("fsdp", "tensor"), axis_types=types)
        def shardings(*axes):
            specs = {"w": jax.P(*axes), "step": jax.P()}
            return {name: jax.NamedSharding(mesh, spec) for name, spec in specs.items()}
        def wanted(*axes):
            shapes = {"w": (8, 8), "step": ()}
            types = {"w": jnp.float32, "step": jnp.int32}
            return {
                name: jax.ShapeDtypeStruct(shapes[name], types[name], sharding=sharding)
                for name, sharding in shardings(*axes).items()
            }
        with jax.set_mesh(mesh), CheckpointManager(sys.argv[1]) as checkpoints:
            tree, metadata = checkpoints.restore(checkpoints.latest(), wanted("fsdp", "tensor"))
            assert tree["w"].sharding == shardings("fsdp", "tensor")["w"], tree["w"].sharding
            assert metadata["data"]["name"] == "größe"
            checkpoints.save(4, tree, {})
            other, _ = checkpoints.restore(4, wanted(None, "fsdp"))
            assert other["w"].sharding == shardings(None, "fsdp")["w"]
            np.testing.assert_array_equal(other["w"], np.arange(64.0).reshape(8, 8))
            assert int(other["step"]) == 3
        """,
        str(tmp_path),
        JAX_NUM_CPU_DEVICES="8",
        PYTHONWARNINGS="error",
    )
    _, errors = child.communicate(timeout=PATIENCE)
    assert child.returncode == 0, errors
    # And back onto one device.
    with CheckpointManager(tmp_path) as checkpoints:
        restored, _ = checkpoints.restore(4, checkpoint.abstract(tree))
    assert_bit_equal(restored, tree)


# --- what goes wrong -----------------------------------------------------------------------------


def test_kill_at_any_moment_leaves_a_whole_step(tmp_path):
    """Each child resumes, checks what it finds, and saves until it is killed in mid-write."""
    code = """
        import sys, jax.numpy as jnp, numpy as np
        from r1ci_jax.train.checkpoint import CheckpointManager, abstract
        def tree(step):
            return {"w": jnp.arange(512.0 * 512.0) + step}
        with CheckpointManager(sys.argv[1]) as checkpoints:
            step = checkpoints.latest()
            if step is not None:
                got, metadata = checkpoints.restore(step, abstract(tree(0)))
                np.testing.assert_array_equal(got["w"], tree(step)["w"])
                assert metadata == {"step": step}
            print("found", step, flush=True)
            step = step or 0
            while True:
                step += 1
                checkpoints.save(step, tree(step), {"step": step})
                print("saving", step, flush=True)
        """
    starts: list[int] = []
    start = 0
    for attempt, delay in enumerate((0.0, 0.013, 0.03)):
        child = run_python(code, str(tmp_path))
        assert child.stdout is not None
        for line in child.stdout:
            word, number = line.split()
            if word == "found":
                start = 0 if number == "None" else int(number)
                starts.append(start)
            elif int(number) == start + 3 + attempt:
                break
        time.sleep(delay)
        child.send_signal(signal.SIGKILL)
        _, errors = child.communicate(timeout=PATIENCE)
        assert child.returncode == -signal.SIGKILL, errors
    with CheckpointManager(tmp_path) as checkpoints:
        last = checkpoints.latest()
        # The save before the one that was killed had been waited for.
        assert starts[0] == 0 and starts[1] >= 2 and starts[2] >= starts[1] + 3
        assert last is not None and last >= starts[2] + 4
        checkpoints.save(last + 1, small_tree(0.0), {})
        checkpoints.wait()
        assert {path.name for path in tmp_path.iterdir()} == {str(last), str(last + 1)}


def test_files_of_others_are_left_alone(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "params").mkdir()
    (tmp_path / "7.orbax-checkpoint-tmp").mkdir()
    with CheckpointManager(tmp_path) as checkpoints:
        assert checkpoints.latest() is None
        assert (tmp_path / "7.orbax-checkpoint-tmp").exists(), "looking deletes nothing"
        checkpoints.save(1, small_tree(1.0), {})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1", "notes.txt", "params"]


def test_another_model_is_told_by_name_and_shape(tmp_path):
    with CheckpointManager(tmp_path) as checkpoints:
        checkpoints.save(1, small_tree(1.0), {})
        wider = {"w": jnp.ones((4, 5)), "count": jnp.array(0)}
        with pytest.raises(
            UserError, match=r"\['w'\] is \[4, 3\] there, \[4, 5\] in this run"
        ) as one:
            checkpoints.restore(1, checkpoint.abstract(wider))
        assert "\n" not in str(one.value)
        with pytest.raises(UserError, match=r"\['count'\] is \[\] there, missing in this run"):
            checkpoints.restore(1, checkpoint.abstract({"w": jnp.ones((4, 3))}))


def test_metadata_that_json_would_change_is_refused(tmp_path):
    with CheckpointManager(tmp_path) as checkpoints:
        for metadata in ({"a": (1, 2)}, {"a": {1: 2}}):
            with pytest.raises(AssertionError, match="plain JSON"):
                checkpoints.save(1, small_tree(1.0), metadata)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_one_clear_line_and_leaves_nothing_half_written(tmp_path):
    """A limit on file size stands in for a full disk: the write fails in the same place."""
    child = run_python(
        """
        import resource, signal, sys, jax, jax.numpy as jnp
        from r1ci_jax.errors import UserError
        from r1ci_jax.train.checkpoint import CheckpointManager
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        with CheckpointManager(sys.argv[1]) as checkpoints:
            checkpoints.save(1, {"w": jnp.zeros(4)}, {})
            checkpoints.wait()
            resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, 1 << 16))
            try:
                checkpoints.save(2, {"w": jax.random.normal(jax.random.key(0), (1 << 18,))}, {})
                checkpoints.wait()
            except UserError as error:
                print(error)
            print(checkpoints.steps())
        """,
        str(tmp_path),
    )
    output, errors = child.communicate(timeout=PATIENCE)
    assert child.returncode == 0, errors
    message, steps = output.splitlines()
    assert message.startswith(f"checkpoint {tmp_path / '2'} cannot be written: ")
    assert "File too large" in message
    assert steps == "[1]"
    assert "Traceback" not in errors
    assert [path.name for path in tmp_path.iterdir()] == ["1"]


def test_the_disk_full_message_names_the_remedy(tmp_path):
    words = "RESOURCE_EXHAUSTED: Failed to write: No space left on device [os_error_code='28']"
    for error in (OSError(28, "No space left on device"), ValueError(words)):
        got = str(checkpoint_dir._write_error(tmp_path / "5", error))
        assert got == (
            f"disk full while writing checkpoint {tmp_path / '5'}: free some space, then run again"
        )


def test_step_json_is_readable_by_a_person(tmp_path):
    with CheckpointManager(tmp_path) as checkpoints:
        checkpoints.save(1, small_tree(1.0), {"seed": 3})
    marker = json.loads((tmp_path / "1" / "step.json").read_text())
    assert marker["metadata"] == {"seed": 3}
    assert marker["shapes"] == {"['count']": [], "['w']": [4, 3]}


def test_what_belongs_beside_a_step_is_there_before_it_counts(tmp_path: Path) -> None:
    counted: list[list[int]] = []

    def note() -> None:
        with checkpoint.CheckpointManager(tmp_path) as others:
            counted.append(others.steps())

    with checkpoint.CheckpointManager(tmp_path, before_commit=note) as checkpoints:
        for step in (1, 2):
            checkpoints.save(step, {"w": jnp.ones(3)}, {})
            checkpoints.wait()
        assert checkpoints.steps() == [1, 2]
    assert counted == [[], [1]]
