"""Files that a script leaves are collected without following anything out of its directory."""

import dataclasses
import time

import pytest

from r1ci_jax.errors import UserError
from r1ci_jax.sandbox import ExecResult, Sandbox, Status
from r1ci_jax.sandbox.result import SANDBOX_FAULTS


def collected(box: Sandbox, code: str, *names: str) -> ExecResult:
    """The result; neither the script's failure nor its files' strangeness is the sandbox's."""
    begin = time.monotonic()
    result = box.run("import os\n" + code, collect=names)
    assert result.status not in SANDBOX_FAULTS and result.attempt == 1, result
    assert time.monotonic() - begin < 60, "whatever lies there, it is passed by"
    return result


def test_f1_files_are_collected(box: Sandbox) -> None:
    code = """
open("a.txt", "w").write("one"); open("empty", "w"); open("other", "w").write("not asked for")
os.makedirs("d/e"); open("d/e/b.bin", "wb").write(bytes(range(256)))
"""
    result = collected(box, code, "a.txt", "d/e/b.bin", "empty", "missing", "d/missing")
    assert result.status is Status.OK
    assert result.files == {"a.txt": b"one", "d/e/b.bin": bytes(range(256)), "empty": b""}
    assert box.run("open('a.txt', 'w').write('x')").files == {}


def test_f1_files_of_a_script_that_failed_are_collected(box: Sandbox) -> None:
    write = "open('log', 'w').write('so far')\n"
    limits = dataclasses.replace(box.config.limits, cpu_seconds=0.2)
    for end, status in (
        ("1 / 0", Status.EXCEPTION),
        ("while True: pass", Status.TIMEOUT_CPU),
        ("import os; os.kill(os.getpid(), 9)", Status.KILLED_SIGNAL),
    ):
        result = box.run(write + end, limits, collect=["log"])
        assert (result.status, result.files) == (status, {"log": b"so far"})


@pytest.mark.parametrize(
    "target",
    ["/python/bin/python", "/dev/urandom", "/scratch/real", "real", "/etc/passwd", "/", "x"],
)
def test_s5_symlinks_are_not_followed(box: Sandbox, target: str) -> None:
    code = f"open('real', 'w').write('real'); os.symlink({target!r}, 'x')"
    assert collected(box, code, "x", "real").files == {"real": b"real"}


def test_s5_symlinked_directories_are_not_followed(box: Sandbox) -> None:
    code = """
os.mkdir("real"); open("real/f", "w").write("real"); os.symlink("real", "near")
os.symlink("/python/lib", "far"); os.symlink("..", "up"); os.symlink("/scratch", "again")
"""
    names = ("real/f", "near/f", "far/libpython3.so", "up/scratch/real/f", "again/real/f")
    assert collected(box, code, *names).files == {"real/f": b"real"}


def test_s5_hard_links_lead_nowhere_else(box: Sandbox) -> None:
    code = """
for number, place in enumerate(("/python/bin/python", "/dev/null", "/dev/urandom")):
    try: os.link(place, f"x{number}")
    except OSError: pass
open("own", "w").write("own"); os.link("own", "own2")
"""
    found = collected(box, code, "x0", "x1", "x2", "own2").files
    assert found in ({"own2": b"own"}, {}), "a second name of its own file is its own"


def test_s5_only_plain_files(box: Sandbox) -> None:
    code = """
os.mkfifo("fifo"); os.mkdir("directory")
try: os.mknod("device", 0o20666, os.makedev(1, 9))
except PermissionError: pass
"""
    assert collected(box, code, "fifo", "directory", "device").files == {}


@pytest.mark.parametrize(
    "name",
    [
        "../python/lib/python3.12/os.py",
        "d/../../python/lib/python3.12/os.py",
        "..",
        ".",
        "",
        "/scratch/own",
        "/python/bin/python",
        "//scratch/own",
        "own\0",
        "own\0/../../x",
        "\ud800",
        "x" * 300,
        "d/" * 3000 + "own",
    ],
)
def test_s5_names_do_not_lead_out(box: Sandbox, name: str) -> None:
    """Such a name is refused as the caller's mistake, or there is no such file."""
    code = "import os; os.mkdir('d'); open('own', 'w').write('own')"
    try:
        result = box.run(code, collect=[name, "own"])
    except UserError:
        result = box.run(code, collect=["own"])
    assert (result.status, result.files) == (Status.OK, {"own": b"own"}), name


def test_s5_names_that_are_no_utf8(box: Sandbox) -> None:
    code = r"""
for name in (b"\xff\xfe", b"new\nline", b" ", b"\xe2\x80\xae", b"a" * 255, b"-rf", b"*"):
    open(name, "wb").write(name)
"""
    names = ("\udcff\udcfe", "new\nline", " ", "\u202e", "a" * 255, "-rf", "*")
    expected = {name: name.encode("utf-8", "surrogateescape") for name in names}
    assert collected(box, code, *names).files == expected


def test_s5_a_file_is_read_up_to_the_limit_only(box: Sandbox) -> None:
    size = box.config.limits.file_bytes
    code = f"""
open("full", "wb").write(b"x" * {size})
try: open("huge", "wb").truncate({size} * 1000)
except OSError: pass
open("sparse", "wb").truncate({size})
"""
    result = collected(box, code, "full", "huge", "sparse")
    assert result.files["full"] == b"x" * size and result.files["sparse"] == bytes(size)
    assert len(result.files.get("huge", b"")) == 0


def test_s5_many_names_for_one_file_do_not_fill_the_host(box: Sandbox) -> None:
    """What the caller asks for bounds what comes: each name once, each file up to the limit."""
    size = box.config.limits.file_bytes
    result = collected(box, f"open('f', 'wb').truncate({size})", *["f"] * 10)
    assert list(result.files) == ["f"] and len(result.files["f"]) == size


def test_s5_a_file_that_may_not_be_read(box: Sandbox) -> None:
    code = "open('f', 'w').write('x'); os.chmod('f', 0); open('g', 'w').write('g')"
    assert collected(box, code, "f", "g").files in ({"g": b"g"}, {"f": b"x", "g": b"g"})
    code = "os.mkdir('d'); open('d/f', 'w').write('x'); os.chmod('d', 0); os.chmod('/scratch', 0)"
    assert collected(box, code, "d/f").files in ({}, {"d/f": b"x"})


SWAP = """
os.makedirs("real"); open("real/os.py", "w").write("real")
os.symlink("/python/lib/python3.12", "link")
def swap():
    while True:
        for source in ("real", "link"):
            try: os.rename(source, "d"); os.rename("d", source)
            except OSError: pass
for _ in range(2):
    if os.fork() == 0: swap()
import time; time.sleep(0.1)
"""


def test_s5_a_race_of_directories_is_not_won(box: Sandbox) -> None:
    """Whoever might swap a directory for a link has ended before the first file is opened."""
    for _ in range(5):
        found = collected(box, SWAP, "d/os.py", "real/os.py", "link/os.py").files
        assert set(found.values()) <= {b"real"} and "link/os.py" not in found


def test_s5_nobody_holds_up_the_collection(box: Sandbox) -> None:
    """What the script leaves running might stop or kill whoever reads its files."""
    code = """
import signal, time
open("f", "w").write("x")
for number in (signal.SIGSTOP, signal.SIGKILL) * 3:
    if os.fork() == 0:
        while True:
            for pid in range(9, 60):
                try: os.kill(pid, number)
                except OSError: pass
time.sleep(0.2)
"""
    for _ in range(3):
        begin = time.monotonic()
        result = collected(box, code, "f")
        assert result.status is Status.OK and time.monotonic() - begin < 60, result
        assert result.files in ({"f": b"x"}, {}), "it may do without its own files"
