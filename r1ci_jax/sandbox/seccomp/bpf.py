"""Compile a system-call filter to classic BPF, which the children of the fork server install.

nsjail compiles the same rules with its Kafel library, which does not export its program.
"""

import struct
from collections.abc import Mapping, Sequence
from typing import Final

from r1ci_jax.sandbox.seccomp.call_rules import ENOSYS, EPERM, Rule

_LOAD, _JUMP_EQUAL, _JUMP_ABOVE, _JUMP, _AND, _RETURN = 0x20, 0x15, 0x35, 0x05, 0x54, 0x06
_NUMBER_AT, _ARCHITECTURE_AT, _ARGUMENTS_AT = 0, 4, 16
_KILL_PROCESS, _ERRNO, _ALLOW = 0x80000000, 0x00050000, 0x7FFF0000
_X86_64: Final = 0xC000003E
_WORD: Final = (1 << 32) - 1
_LONGEST_JUMP: Final = 255


def program(found: Mapping[int, Rule]) -> bytes:
    """Compile the rules to classic BPF; a call of another architecture ends the process."""
    absent = Rule(errno=ENOSYS)
    spans: list[tuple[int, Rule]] = []
    for number in range(max(found) + 2):
        rule = found.get(number, absent)
        if not spans or spans[-1][1] != rule:
            spans.append((number, rule))
    code = [
        _instruction(_LOAD, _ARCHITECTURE_AT),
        _instruction(_JUMP_EQUAL, _X86_64, yes=1),
        _instruction(_RETURN, _KILL_PROCESS),
        _instruction(_LOAD, _NUMBER_AT),
        *_search(spans),
    ]
    return b"".join(code)


def _search(spans: Sequence[tuple[int, Rule]]) -> list[bytes]:
    """Return a binary search for the span of the call; a short program makes starts fast."""
    if len(spans) == 1:
        return _decide(spans[0][1])
    middle = len(spans) // 2
    low, high = _search(spans[:middle]), _search(spans[middle:])
    number = spans[middle][0]
    if len(low) <= _LONGEST_JUMP:
        return [_instruction(_JUMP_ABOVE, number, yes=len(low)), *low, *high]
    over = [_instruction(_JUMP_ABOVE, number, no=1), _instruction(_JUMP, len(low))]
    return [*over, *low, *high]


def _decide(rule: Rule) -> list[bytes]:
    if not rule.conditions:
        value = _ALLOW if rule.errno is None else _ERRNO | rule.errno
        return [_instruction(_RETURN, value)]
    code = []
    for condition in rule.conditions:
        low_at = _ARGUMENTS_AT + 8 * condition.argument
        code += [
            _instruction(_LOAD, low_at),
            _instruction(_AND, condition.mask & _WORD),
            _instruction(_JUMP_EQUAL, condition.value & _WORD, no=4),
            _instruction(_LOAD, low_at + 4),
            _instruction(_AND, condition.mask >> 32),
            _instruction(_JUMP_EQUAL, condition.value >> 32, no=1),
            _instruction(_RETURN, _ALLOW),
        ]
    return [*code, _instruction(_RETURN, _ERRNO | EPERM)]


def _instruction(operation: int, value: int, *, yes: int = 0, no: int = 0) -> bytes:
    return struct.pack("HBBI", operation, yes, no, value)
