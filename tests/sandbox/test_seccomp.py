"""The system-call filter for the fork server's children does what the policy's text says."""

import struct

import pytest

from r1ci_jax.errors import UserError
from r1ci_jax.sandbox.host import jail_policy, seccomp

X86_64, I386 = 0xC000003E, 0x40000003
KILL, ALLOW = 0x80000000, 0x7FFF0000


def refused(errno: int) -> int:
    return 0x00050000 | errno


def decide(program: bytes, number: int, argument: int = 0, architecture: int = X86_64) -> int:
    """Run classic BPF on one system call, as the kernel would."""
    words = struct.pack("IIQQ", number, architecture, 0, argument)
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
            case 0x45:
                at += yes if accumulator & value else no
            case 0x05:
                at += value
            case 0x06:
                return value
            case _:
                raise AssertionError(f"operation {operation:#x}")


@pytest.mark.parametrize("name", ["default", "scientific", "grader"])
def test_every_policy_refuses_exactly_what_it_lists(name: str) -> None:
    text = jail_policy.read(name).filter_text()
    program = seccomp.program(text)
    listed = {rule.number: rule for rule in seccomp.rules(text)}
    assert len(listed) > 100
    for number in (*range(600), *range(0x40000000, 0x40000000 + 600)):
        rule = listed.get(number)
        every_bit = decide(program, number, (1 << 64) - 1)
        assert every_bit == (refused(rule.errno) if rule else ALLOW), number
        no_bit = decide(program, number, 0)
        always = rule is not None and rule.mask is None
        assert no_bit == (refused(rule.errno) if rule and always else ALLOW), number


def test_conditions_look_at_both_halves_of_the_argument() -> None:
    program = seccomp.program("POLICY p { ERRNO(1) { prlimit64(pid) { pid != 0 } } }")
    assert decide(program, 302, 0) == ALLOW
    assert decide(program, 302, 1) == refused(1)
    assert decide(program, 302, 1 << 40) == refused(1)


def test_new_namespaces_are_refused_and_threads_are_not() -> None:
    program = seccomp.program(jail_policy.read("default").filter_text())
    clone, threads = seccomp.NUMBERS["clone"], 0x3D0F00
    assert decide(program, clone, threads) == ALLOW
    assert decide(program, clone, 17) == ALLOW  # fork: SIGCHLD alone
    for new_namespace in (0x80, 0x20000, 0x2000000, 0x4000000, 0x8000000, 0x10000000, 0x40000000):
        assert decide(program, clone, 17 | new_namespace) == refused(1)
    assert decide(program, seccomp.NUMBERS["clone3"]) == refused(38)


def test_32_bit_calls_end_the_process() -> None:
    program = seccomp.program(jail_policy.read("default").filter_text())
    assert decide(program, 1, architecture=I386) == KILL


@pytest.mark.parametrize(
    "text",
    [
        "",
        "POLICY p { KILL { socket } }",
        "POLICY p { ERRNO(1) { no_such_call } }",
        "POLICY p { ERRNO(1) { clone(flags) { flags == 5 } } }",
    ],
)
def test_what_is_not_understood_is_an_error(text: str) -> None:
    with pytest.raises(UserError, match="system-call filter"):
        seccomp.program(text)
