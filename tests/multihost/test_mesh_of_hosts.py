"""A run on several hosts needs the mesh of all their devices, and says so before it trains."""

import pathlib

from r1ci_jax.errors import USER_ERROR_EXIT_STATUS
from tests.multihost.conftest import Start
from tests.pipeline import test_kill


def test_a_mesh_of_one_device_is_refused_at_once(
    start_hosts: Start, tmp_path: pathlib.Path
) -> None:
    file, workdir = tmp_path / "micro.py", tmp_path / "run"
    file.write_text(test_kill.EXPERIMENT)  # names no mesh
    for host in start_hosts("r1ci_jax", "run", str(file), "--workdir", str(workdir), devices=1):
        assert host.wait() == USER_ERROR_EXIT_STATUS, host.said
        assert "needs 1 devices, there are 2" in host.last_line, host.said
        assert "data: start" not in host.said
