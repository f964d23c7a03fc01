"""The system-call filter of both kinds of jail does what the policy's text says."""

import ast
import struct

import pytest

from r1ci_jax.errors import UserError
from r1ci_jax.sandbox import Sandbox, Status
from r1ci_jax.sandbox.host import jail_policy
from r1ci_jax.sandbox.seccomp import bpf, call_rules
from r1ci_jax.sandbox.seccomp.system_calls import NUMBERS

X86_64, I386 = 0xC000003E, 0x40000003
KILL, ALLOW = 0x80000000, 0x7FFF0000
EPERM, ENOSYS = 1, 38
ALL_BITS = (1 << 64) - 1


def refused(errno: int) -> int:
    return 0x00050000 | errno


def decide(
    program: bytes, number: int, arguments: tuple[int, ...] = (), architecture: int = X86_64
) -> int:
    """Run classic BPF on one system call, as the kernel would."""
    words = struct.pack("IIQ6Q", number, architecture, 0, *arguments, *(6 - len(arguments)) * [0])
    instructions = list(struct.iter_unpack("HBBI", program))
    at = accumulator = 0
    while True:
        operation, yes, no, value = instructions[at]
        at += 1
        match operation:
            case 0x20:
                (accumulator,) = struct.unpack_from("I", words, value)
            case 0x15:
                at += yes if accumulator == value else no
            case 0x35:
                at += yes if accumulator >= value else no
            case 0x54:
                accumulator &= value
            case 0x05:
                at += value
            case 0x06:
                return value
            case _:
                raise AssertionError(f"operation {operation:#x}")


def meaning(rule: call_rules.Rule | None, arguments: tuple[int, ...]) -> int:
    """Decide by the rule itself."""
    if rule is None:
        return refused(ENOSYS)
    if rule.errno is not None:
        return refused(rule.errno)
    holds = [(arguments[c.argument] & c.mask) == c.value for c in rule.conditions]
    return ALLOW if not holds or any(holds) else refused(EPERM)


@pytest.mark.parametrize("name", ["default", "scientific", "grader"])
def test_the_program_decides_every_call_by_its_rule(name: str) -> None:
    found = jail_policy.read(name).system_calls()
    program = bpf.program(found)
    assert len(program) // 8 < 4096, "the kernel accepts no longer program"
    values = {0, 1, 17, 0x5401, 1030, 15, 0x3D0F00, ALL_BITS, 1 << 40, (1 << 40) | 17}
    for number in (*range(600), *range(0x40000000, 0x40000000 + 600), (1 << 32) - 1):
        for value in values:
            arguments = (value,) * 6
            assert decide(program, number, arguments) == meaning(found.get(number), arguments)


def test_a_later_policy_takes_back_what_an_earlier_one_allows() -> None:
    default, grader = (jail_policy.read(name).system_calls() for name in ("default", "grader"))
    assert default[NUMBERS["link"]].errno is None
    assert grader[NUMBERS["link"]].errno == EPERM
    assert grader[NUMBERS["read"]].errno is None


def test_a_call_that_is_newer_than_the_policy_is_refused() -> None:
    program = bpf.program(jail_policy.read("default").system_calls())
    newest = max(NUMBERS.values())
    assert {decide(program, newest + extra) for extra in range(1, 100)} == {refused(ENOSYS)}


def test_conditions_look_at_both_halves_of_the_argument() -> None:
    program = bpf.program(call_rules.rules("POLICY p { ALLOW { prlimit64(pid) { pid == 0 } } }"))
    assert decide(program, 302, (0,)) == ALLOW
    assert decide(program, 302, (1,)) == refused(EPERM)
    assert decide(program, 302, (1 << 40,)) == refused(EPERM)


def test_conditions_look_at_the_argument_that_they_name() -> None:
    program = bpf.program(call_rules.rules("POLICY p { ALLOW { fcntl(fd, cmd) { cmd == 7 } } }"))
    assert decide(program, NUMBERS["fcntl"], (3, 7)) == ALLOW
    assert decide(program, NUMBERS["fcntl"], (7, 3)) == refused(EPERM)


def test_clone_makes_threads_and_children_and_nothing_else() -> None:
    program = bpf.program(jail_policy.read("default").system_calls())
    clone, threads = NUMBERS["clone"], 0x3D0F00
    assert decide(program, clone, (threads,)) == ALLOW
    assert decide(program, clone, (17,)) == ALLOW  # fork: SIGCHLD alone
    assert decide(program, clone, (0x4111,)) == ALLOW  # posix_spawn: CLONE_VM | CLONE_VFORK
    for new_namespace in (0x80, 0x20000, 0x2000000, 0x4000000, 0x8000000, 0x10000000, 0x40000000):
        assert decide(program, clone, (17 | new_namespace,)) == refused(EPERM)
        assert decide(program, clone, (threads | new_namespace,)) == refused(EPERM)
    for flags in (0x8000 | 17, 0x8000 | threads):  # CLONE_PARENT: a sibling
        assert decide(program, clone, (flags,)) == refused(EPERM)
    for end in (0, 9, 10, 18, 19):  # the signal at its end, where a parent waits for SIGCHLD
        assert decide(program, clone, (end,)) == refused(EPERM)
    assert decide(program, NUMBERS["clone3"]) == refused(ENOSYS)


def test_32_bit_calls_end_the_process() -> None:
    program = bpf.program(jail_policy.read("default").system_calls())
    assert decide(program, 1, architecture=I386) == KILL


@pytest.mark.parametrize(
    "text",
    [
        "",
        "POLICY p { KILL { socket } }",
        "POLICY p { ERRNO(1) { no_such_call } }",
        "POLICY p { ERRNO(1) { clone(flags) { flags == 5 } } }",
        "POLICY p { ALLOW { clone(flags) { flags > 5 } } }",
        "POLICY p { ALLOW { clone(flags) { other == 5 } } }",
    ],
)
def test_what_is_not_understood_is_an_error(text: str) -> None:
    with pytest.raises(UserError, match="system-call filter"):
        call_rules.rules(text)


def test_the_kernel_refuses_what_the_text_refuses(box: Sandbox) -> None:
    """Every call that is not allowed is tried with arguments that no condition admits.

    The kernel handles uretprobe and uprobe (335, 336) before it asks any filter.
    """
    found = jail_policy.read("default").system_calls()
    wanted: dict[int, tuple[int, int]] = {}
    for number in (*range(480), *range(0x40000000, 0x40000000 + 480)):
        answer = meaning(found.get(number), (ALL_BITS,) * 6)
        if answer != ALLOW and number not in (335, 336):
            errno = answer & 0xFFFF
            wanted[number] = (-1, errno) if errno else (0, 0)
    code = f"""
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
seen = {{}}
for number in {sorted(wanted)}:
    ctypes.set_errno(0)
    seen[number] = libc.syscall(ctypes.c_long(number), *[ctypes.c_long(-1)] * 6), ctypes.get_errno()
print(seen)
"""
    result = box.run(code)
    assert result.status is Status.OK, result
    assert ast.literal_eval(result.stdout) == wanted
