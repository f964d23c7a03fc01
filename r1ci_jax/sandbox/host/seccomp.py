"""Compile a policy's system-call filter to classic BPF, for the children of the fork server.

nsjail compiles the same text with its Kafel library for cold jails. That library does not export
its program, so this module implements the part of Kafel that `sandboxes/*.kafel` use:

    POLICY name { ERRNO(n) { call, call(arg) { condition }, SYSCALL[number] } ... }

A condition is `arg != number` or `(arg & number) != 0` on the first argument. The module supports
x86_64 only.
"""

import dataclasses
import itertools
import platform
import re
import struct
from typing import Final

from r1ci_jax.errors import UserError

_LOAD, _JUMP_EQUAL, _JUMP_ANY_BIT, _JUMP, _RETURN = 0x20, 0x15, 0x45, 0x05, 0x06
_NUMBER_AT, _ARCHITECTURE_AT, _FIRST_ARGUMENT_AT = 0, 4, 16
_KILL_PROCESS, _ERRNO, _ALLOW = 0x80000000, 0x00050000, 0x7FFF0000
_X86_64: Final = 0xC000003E

# Kafel's names of the calls; `umount` is umount2(2).
NUMBERS: Final = {
    "acct": 163, "add_key": 248, "adjtimex": 159, "bpf": 321, "chroot": 161, "clock_adjtime": 305,
    "clock_settime": 227, "clone": 56, "clone3": 435, "delete_module": 176, "execve": 59,
    "execveat": 322, "fanotify_init": 300, "finit_module": 313, "fork": 57, "fsconfig": 431,
    "fsmount": 432, "fsopen": 430, "fspick": 433, "get_robust_list": 274, "init_module": 175,
    "io_uring_enter": 426, "io_uring_register": 427, "io_uring_setup": 425, "ioperm": 173,
    "iopl": 172, "kcmp": 312, "kexec_file_load": 320, "kexec_load": 246, "keyctl": 250, "link": 86,
    "linkat": 265, "lookup_dcookie": 212, "memfd_create": 319, "memfd_secret": 447,
    "migrate_pages": 256, "mknod": 133, "mknodat": 259, "modify_ldt": 154, "mount": 165,
    "mount_setattr": 442, "move_mount": 429, "move_pages": 279, "mq_open": 240, "msgget": 68,
    "name_to_handle_at": 303, "nfsservctl": 180, "open_by_handle_at": 304, "open_tree": 428,
    "perf_event_open": 298, "personality": 135, "pidfd_getfd": 438, "pivot_root": 155,
    "prlimit64": 302, "process_madvise": 440, "process_vm_readv": 310, "process_vm_writev": 311,
    "ptrace": 101, "quotactl": 179, "reboot": 169, "request_key": 249, "semget": 64,
    "setdomainname": 171, "sethostname": 170, "setns": 308, "settimeofday": 164, "shmat": 30,
    "shmget": 29, "socket": 41, "socketpair": 53, "swapoff": 168, "swapon": 167, "symlink": 88,
    "symlinkat": 266, "sysfs": 139, "syslog": 103, "umount": 166, "unshare": 272, "uselib": 134,
    "userfaultfd": 323, "ustat": 136, "vfork": 58, "vmsplice": 278,
}  # fmt: skip


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rule:
    """One refused call."""

    number: int
    errno: int
    mask: int | None = None
    """Bits of the first argument that make the call refused; None refuses it always."""


def rules(text: str) -> list[Rule]:
    """Parse the rules of all POLICY blocks in `text`.

    Raises:
        UserError: The text uses a part of Kafel that this module does not support.
    """
    bare = re.sub(r"//[^\n]*", "", text)
    found = []
    for block in re.finditer(r"POLICY\s+\w+\s*\{((?:[^{}]|\{(?:[^{}]|\{[^{}]*\})*\})*)\}", bare):
        body = block[1]
        for action in re.finditer(r"ERRNO\((\d+)\)\s*\{((?:[^{}]|\{[^{}]*\})*)\}", body):
            found += [_rule(item, int(action[1])) for item in _items(action[2])]
            body = body.replace(action[0], "")
        if body.strip(", \n\t"):
            raise UserError(
                f"the system-call filter has {body.split()[0]!r}; only ERRNO is supported"
            )
    if not found:
        raise UserError("the system-call filter has no rules; write POLICY name { ERRNO(1) {...} }")
    return found


def _items(text: str) -> list[str]:
    items = (item.strip() for item in re.split(r",(?![^{(\[]*[})\]])", text))
    return [item for item in items if item]


def _rule(item: str, errno: int) -> Rule:
    if match := re.fullmatch(r"SYSCALL\[(\w+)\]", item):
        return Rule(number=int(match[1], 0), errno=errno)
    name, _, rest = item.partition("(")
    if name.strip() not in NUMBERS:
        raise UserError(f"the system-call filter names {name.strip()!r}, which is not known here")
    number = NUMBERS[name.strip()]
    if not rest:
        return Rule(number=number, errno=errno)
    if match := re.fullmatch(r"(\w+)\)\s*\{\s*\(\1\s*&\s*(\w+)\)\s*!=\s*0\s*\}", rest):
        return Rule(number=number, errno=errno, mask=int(match[2], 0))
    if re.fullmatch(r"(\w+)\)\s*\{\s*\1\s*!=\s*0\s*\}", rest):
        return Rule(number=number, errno=errno, mask=(1 << 64) - 1)
    raise UserError(f"the system-call filter has a condition that is not known here: {item}")


def program(text: str) -> bytes:
    """Compile to classic BPF: 32-bit calls end the process, refused ones fail, others pass.

    Raises:
        UserError: The processor is not x86_64, or the filter uses an unsupported part of Kafel.
    """
    if platform.machine() != "x86_64":
        raise UserError(
            f"the fork server knows the system calls of x86_64 only and this is "
            f'{platform.machine()}; set sandbox.backend = "cold"'
        )
    code = [
        _instruction(_LOAD, _ARCHITECTURE_AT),
        _instruction(_JUMP_EQUAL, _X86_64, yes=1),
        _instruction(_RETURN, _KILL_PROCESS),
        _instruction(_LOAD, _NUMBER_AT),
    ]
    found = rules(text)
    for errno in dict.fromkeys(rule.errno for rule in found):
        numbers = [rule.number for rule in found if rule.errno == errno and rule.mask is None]
        refuse = _instruction(_RETURN, _ERRNO | errno)
        # A jump reaches 255 instructions. Every script compiles the program: a short one is fast.
        for part in itertools.batched(numbers, 200):
            left = len(part)
            for number in part:
                code.append(_instruction(_JUMP_EQUAL, number, yes=left))
                left -= 1
            code += [_instruction(_JUMP, 1), refuse]
    for rule in found:
        if rule.mask is None:
            continue
        low, high = rule.mask & 0xFFFFFFFF, rule.mask >> 32
        refuse = _instruction(_RETURN, _ERRNO | rule.errno)
        code += [
            _instruction(_JUMP_EQUAL, rule.number, no=6),
            _instruction(_LOAD, _FIRST_ARGUMENT_AT),
            _instruction(_JUMP_ANY_BIT, low, yes=2),
            _instruction(_LOAD, _FIRST_ARGUMENT_AT + 4),
            _instruction(_JUMP_ANY_BIT, high, no=1),
            refuse,
            _instruction(_LOAD, _NUMBER_AT),
        ]
    code.append(_instruction(_RETURN, _ALLOW))
    return b"".join(code)


def _instruction(operation: int, value: int, *, yes: int = 0, no: int = 0) -> bytes:
    return struct.pack("HBBI", operation, yes, no, value)
