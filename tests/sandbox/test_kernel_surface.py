"""What a script can ask of the kernel: no network, no namespaces, no rights."""

import os
import pathlib
import platform
import signal
import socket
from collections.abc import Callable

import pytest

from r1ci_jax.sandbox import Limits, Sandbox, Status

Outcomes = Callable[[str], dict[str, str]]
X86_64 = pytest.mark.skipif(platform.machine() != "x86_64", reason="machine code of x86_64")


# --- Network ---


def sockets(outcomes: Outcomes, family: str, kind: str) -> None:
    code = (
        f"import socket\nattempt('socket', lambda: socket.socket(socket.{family}, socket.{kind}))"
    )
    assert outcomes(code) == {"socket": "EPERM"}


@pytest.mark.parametrize("address", ["127.0.0.1", "10.0.0.1", "192.168.1.1", "8.8.8.8"])
def test_n1_no_address_is_reached(outcomes: Outcomes, address: str) -> None:
    code = f"import socket\nattempt('connect', lambda: socket.create_connection(({address!r}, 80)))"
    assert outcomes(code) == {"connect": "EPERM"}


@pytest.mark.parametrize(
    ("family", "kind"), [("AF_INET", "SOCK_STREAM"), ("AF_INET6", "SOCK_DGRAM")]
)
def test_n1_no_internet_socket(outcomes: Outcomes, family: str, kind: str) -> None:
    sockets(outcomes, family, kind)


def test_n2_names_do_not_resolve(box: Sandbox) -> None:
    result = box.run(
        "import socket\ntry: socket.getaddrinfo('example.org', 80)\n"
        "except OSError as e: print(type(e).__name__)"
    )
    assert result.stdout in ("gaierror\n", "PermissionError\n")


def test_n3_the_metadata_server_is_not_reached(box: Sandbox, patient: Limits) -> None:
    code = """
import urllib.error, urllib.request
for host in ("169.254.169.254", "metadata.google.internal", "[fd00:ec2::254]"):
    request = urllib.request.Request(f"http://{host}/computeMetadata/v1/")
    request.add_header("Metadata-Flavor", "Google")
    try: urllib.request.urlopen(request, timeout=5); print("reached")
    except urllib.error.URLError: print("no")
"""
    assert box.run(code, patient).stdout == "no\n" * 3


@pytest.mark.parametrize(
    ("family", "kind"),
    [
        ("AF_UNIX", "SOCK_STREAM"),
        ("AF_UNIX", "SOCK_DGRAM"),
        ("AF_VSOCK", "SOCK_STREAM"),
        ("AF_NETLINK", "SOCK_RAW"),
        ("AF_PACKET", "SOCK_RAW"),
    ],
)
def test_n4_no_local_socket(outcomes: Outcomes, family: str, kind: str) -> None:
    sockets(outcomes, family, kind)


def test_n5_abstract_sockets_of_the_host_are_not_reached(outcomes: Outcomes) -> None:
    """A pair of datagram sockets may address others: what refuses them is the net namespace."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as host:
        name = f"r1ci-jax-abstract-{os.getpid()}"  # other tests may run beside this one
        host.bind(f"\0{name}")
        host.setblocking(False)
        code = f"""
import socket
one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
attempt("send", lambda: one.sendto(b"hello", "\\0{name}"))
attempt("connect", lambda: other.connect("\\0{name}"))
"""
        assert outcomes(code) == {"send": "ECONNREFUSED", "connect": "ECONNREFUSED"}
        with pytest.raises(BlockingIOError):
            host.recv(10)


def test_n6_no_descriptor_of_the_host_comes_in(box: Sandbox, tmp_path: pathlib.Path) -> None:
    with open(tmp_path / "secret", "w") as file:
        os.set_inheritable(file.fileno(), True)
        look = "try: os.fstat(fd); print(fd)\n    except OSError: pass"
        code = f"import os\nfor fd in range(1024):\n    {look}"
        assert box.run(code).stdout == "0\n1\n2\n"


# --- Kernel ---

NAMESPACES = {
    "unshare": (272, "0x10000000"),
    "setns": (308, "0, 0"),
    "clone_newuser": (56, "0x10000011, 0, 0, 0, 0"),
    "clone_newnet": (56, "0x40000011, 0, 0, 0, 0"),
}
MOUNTS = {
    "mount": (165, "0, 0, 0, 0, 0"),
    "umount2": (166, "b'/proc', 0"),
    "pivot_root": (155, "b'/', b'/'"),
    "chroot": (161, "b'/scratch'"),
    "move_mount": (429, "0, b'', 0, b'', 0"),
    "open_tree": (428, "-100, b'/', 1"),
    "fsopen": (430, "b'proc', 0"),
    "mount_setattr": (442, "-100, b'/', 0, 0, 0"),
}
OTHERS_MEMORY = {
    "ptrace": (101, "0, 0, 0, 0"),
    "ptrace_attach": (101, "16, 1, 0, 0"),
    "process_vm_readv": (310, "1, 0, 0, 0, 0, 0"),
    "process_vm_writev": (311, "1, 0, 0, 0, 0, 0"),
    "kcmp": (312, "1, 1, 0, 0, 0"),
    "pidfd_getfd": (438, "0, 0, 0"),
    "process_madvise": (440, "0, 0, 0, 0, 0"),
}
SURFACE = {
    "bpf": (321, "0, 0, 0"),
    "perf_event_open": (298, "0, 0, 0, 0, 0"),
    "io_uring_setup": (425, "1, 0"),
    "userfaultfd": (323, "0"),
    "keyctl": (250, "0, -3, 0"),
    "add_key": (248, "b'user', b'k', b'v', 1, -3"),
    "request_key": (249, "b'user', b'k', 0, 0"),
    "personality": (135, "-1"),
    "open_by_handle_at": (304, "0, 0, 0"),
    "memfd_create": (319, "b'x', 0"),
}


def refused(outcomes: Outcomes, numbers: dict[str, tuple[int, str]]) -> None:
    code = "import ctypes\nlibc = ctypes.CDLL(None, use_errno=True)\n"
    code += "def call(*a):\n    if libc.syscall(*a) < 0: raise OSError(ctypes.get_errno(), 'x')\n"
    code += "".join(
        f"attempt({n!r}, lambda: call({nr}, {args}))\n" for n, (nr, args) in numbers.items()
    )
    assert outcomes(code) == dict.fromkeys(numbers, "EPERM")


@X86_64
def test_k1_no_other_namespaces(outcomes: Outcomes) -> None:
    refused(outcomes, NAMESPACES)


@X86_64
def test_k2_no_mounts(outcomes: Outcomes) -> None:
    refused(outcomes, MOUNTS)


@X86_64
def test_k3_no_way_into_other_processes(outcomes: Outcomes) -> None:
    refused(outcomes, OTHERS_MEMORY)
    code = "".join(
        f"attempt('{pid}', lambda: open('/proc/{pid}/mem'))\n" for pid in ("1", "2", "self")
    )
    assert set(outcomes(code).values()) == {"ENOENT"}


@X86_64
def test_k4_no_calls_beyond_the_namespaces(outcomes: Outcomes) -> None:
    refused(outcomes, SURFACE)


@X86_64
def test_k5_system_calls_of_other_abis_reach_nothing(box: Sandbox) -> None:
    run = """
import ctypes, mmap
page = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
page.write(%r)
print(ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(page)))())
"""
    # mov eax, 20 (getpid); int 0x80; ret
    killed = box.run(run % b"\xb8\x14\x00\x00\x00\xcd\x80\xc3")
    assert (killed.status, killed.signal, killed.stdout) == (Status.SECCOMP, signal.SIGSYS, "")
    # mov eax, 0x40000029 (x32 socket); syscall; ret: a number that the filter does not name
    refused = box.run(run % b"\xb8\x29\x00\x00\x40\x0f\x05\xc3")
    assert refused.stdout == "-38\n"


@X86_64
def test_k6_the_cover_of_proc_stays(outcomes: Outcomes) -> None:
    code = """
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
def umount(flags):
    if libc.umount2(b"/proc", flags) < 0: raise OSError(ctypes.get_errno(), "x")
for flags in (0, 1, 2, 4, 8): attempt(f"umount{flags}", lambda: umount(flags))
print("inside", os.listdir("/proc"))
"""
    seen = outcomes(code)
    assert seen.pop("inside") == "[]" and set(seen.values()) == {"EPERM"}


def test_k7_no_capability_is_won_back(outcomes: Outcomes) -> None:
    code = """
import ctypes, struct
libc = ctypes.CDLL(None, use_errno=True)
def ok(result):
    if result < 0: raise OSError(ctypes.get_errno(), "x")
header = ctypes.create_string_buffer(struct.pack("Ii", 0x20080522, 0))
held = ctypes.create_string_buffer(24)
ok(libc.capget(header, held)); print("held", held.raw == bytes(24))
attempt("capset", lambda: ok(libc.capset(header, b"\\xff" * 24)))
attempt("ambient", lambda: ok(libc.prctl(47, 2, 21, 0, 0)))
attempt("securebits", lambda: ok(libc.prctl(28, 1, 0, 0, 0)))
attempt("no_new_privs", lambda: ok(libc.prctl(38, 0, 0, 0, 0)))
attempt("setuid", lambda: os.setuid(0))
attempt("setgid", lambda: os.setgid(0))
attempt("setgroups", lambda: os.setgroups([0]))
print("bounding", sum(libc.prctl(23, c, 0, 0, 0) for c in range(41)))
print("ids", os.getuid(), os.getgid(), os.getgroups())
"""
    seen = outcomes(code)
    assert (seen.pop("held"), seen.pop("ids")) == ("True", "65534")
    assert seen.pop("bounding") in ("0", "41"), "empty, or out of use for want of a way to gain"
    assert set(seen.values()) <= {"EPERM", "EINVAL"}, seen


def test_k8_no_limit_is_raised(outcomes: Outcomes) -> None:
    code = """
import resource
for name in sorted(n for n in dir(resource) if n.startswith("RLIMIT_")):
    which = getattr(resource, name)
    hard = resource.getrlimit(which)[1]
    if hard == resource.RLIM_INFINITY: continue
    try: resource.setrlimit(which, (hard, hard + 1)); print(name, "DONE")
    except (ValueError, OSError): print(name, "EPERM")
"""
    seen = outcomes(code)
    limited = {"AS", "CORE", "CPU", "FSIZE", "NOFILE", "NPROC", "STACK"}
    assert {f"RLIMIT_{name}" for name in limited} <= seen.keys()
    assert set(seen.values()) == {"EPERM"}


@pytest.mark.parametrize(
    "path",
    [
        "/proc/sys/kernel/core_pattern",
        "/proc/sysrq-trigger",
        "/proc/sys/kernel/hostname",
        "/sys/fs/cgroup/cgroup.procs",
        "/sys/kernel/uevent_helper",
    ],
)
def test_k9_no_setting_of_the_kernel_is_written(outcomes: Outcomes, path: str) -> None:
    seen = outcomes(f"attempt('write', lambda: open({path!r}, 'w'))")
    assert seen["write"] in ("ENOENT", "EROFS")


def test_k10_the_memory_killer_is_not_talked_round(outcomes: Outcomes) -> None:
    code = "".join(
        f"attempt({p!r}, lambda: open('/proc/{p}/oom_score_adj', 'w'))\n"
        for p in ("self", "1", "2")
    )
    assert set(outcomes(code).values()) == {"ENOENT"}


def test_k11_no_urgency_is_gained(outcomes: Outcomes) -> None:
    code = """
attempt("nice", lambda: os.nice(-5))
attempt("fifo", lambda: os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1)))
attempt("others", lambda: os.setpriority(os.PRIO_USER, 0, -1))
"""
    assert set(outcomes(code).values()) <= {"EPERM", "EACCES"}


def test_k12_ids_are_not_mapped_again(outcomes: Outcomes) -> None:
    places = [f"/proc/{pid}/{file}" for pid in ("self", "1") for file in ("uid_map", "gid_map")]
    code = "".join(f"attempt({p!r}, lambda: open({p!r}, 'w'))\n" for p in places)
    assert outcomes(code) == dict.fromkeys(places, "ENOENT")
