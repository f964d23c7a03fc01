"""Count the collectives of a compiled program in its HLO text.

A computation counts once per call; the body of a loop with a known trip count counts that often, of
any other loop once. So the counts of a decode chunk, which may end at any step, are those of one
step. Both branches of a conditional count.
"""

import collections
import dataclasses
import math
import re
from collections.abc import Sequence

KINDS = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")
_BYTES = {"pred": 1, "s4": 0.5, "u4": 0.5, "bf16": 2}
_HEADER = re.compile(r"^(?:ENTRY )?%?([\w.\-]+) \(.*\{$")
_ENTRY = re.compile(r"^ENTRY %?([\w.\-]+) ", re.M)
_ARRAY = re.compile(r"\b([a-z]+\d*(?:e\dm\d\w*)?)\[([\d,]*)\]")
_CALLED = re.compile(
    r"(?:body|calls|to_apply|true_computation|false_computation)=%?([\w.\-]+)"
    r"|branch_computations=\{([^}]*)\}|called_computations=\{([^}]*)\}"
)
_ROUNDS = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')
_OPERATION = re.compile(rf"^\s*(?:ROOT )?%\S+ = (.*?) ({'|'.join(KINDS)})(-start)?\(")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Collective:
    """All collectives of one kind among groups of one size."""

    kind: str
    devices: int
    """Devices that take part in each."""
    count: int
    payload_bytes: float
    """Sum over all of the array that each device has afterwards (reduce-scatter: before)."""

    @property
    def moved_bytes(self) -> float:
        """Bytes that each device sends around a ring."""
        rounds = 2.0 if self.kind == "all-reduce" else 1.0
        fraction = 1.0 if self.kind == "collective-permute" else (self.devices - 1) / self.devices
        return rounds * fraction * self.payload_bytes


def count_collectives(text: str, devices: int) -> list[Collective]:
    """Count the collectives of the program `text` (`Compiled.as_text()`) on `devices` devices."""
    bodies = _computations(text)
    times = _call_counts(bodies, text)
    counts: dict[tuple[str, int], int] = collections.Counter()
    payloads: dict[tuple[str, int], float] = collections.defaultdict(float)
    for name, lines in bodies.items():
        for line in lines:
            found = _OPERATION.match(line)
            if found is None or not times[name]:
                continue
            result, kind, started = found.groups()
            group = _group_size(line, devices)
            key = (kind, group)
            counts[key] += times[name]
            payloads[key] += times[name] * _payload(result, kind, group, bool(started))
    return [
        Collective(kind=kind, devices=group, count=count, payload_bytes=payloads[kind, group])
        for (kind, group), count in sorted(counts.items())
    ]


def _computations(text: str) -> dict[str, list[str]]:
    bodies: dict[str, list[str]] = {}
    current: list[str] | None = None
    for line in text.splitlines():
        header = _HEADER.match(line)
        if header:
            current = bodies[header[1]] = []
        elif line.startswith("}"):
            current = None
        elif current is not None:
            current.append(line)
    return bodies


def _call_counts(bodies: dict[str, list[str]], text: str) -> collections.Counter[str]:
    """Count the calls of each computation; the text has callees before their callers."""
    times: collections.Counter[str] = collections.Counter()
    entry = _ENTRY.search(text)
    assert entry is not None, "a program without an entry computation"
    times[entry[1]] = 1
    for name in reversed(list(bodies)):
        for line in bodies[name]:
            rounds = _ROUNDS.search(line)
            each = int(rounds[1]) if rounds and " while(" in line else 1
            for called in _CALLED.findall(line):
                for callee in re.findall(r"[\w.\-]+", ",".join(called)):
                    times[callee] += each * times[name]
    return times


def _payload(result: str, kind: str, group: int, is_started: bool) -> float:
    sizes = [_array_bytes(*array) for array in _ARRAY.findall(result)]
    # The result of an asynchronous start has its operands, then its outputs.
    total = max(sizes) if is_started and kind != "all-reduce" else sum(sizes)
    return total * group if kind == "reduce-scatter" else total


def _array_bytes(dtype: str, dims: str) -> float:
    bits = re.search(r"\d+", dtype)
    width = _BYTES.get(dtype, int(bits[0]) / 8 if bits and dtype[0] in "fsuc" else 0)
    return width * math.prod(int(dim) for dim in dims.split(",") if dim)


def _group_size(line: str, devices: int) -> int:
    listed = re.search(r"replica_groups=\{\{([\d,]+)\}", line)
    if listed:
        return len(listed[1].split(","))
    counted = re.search(r"replica_groups=\[(\d+),(\d+)\]", line)
    if counted:
        return int(counted[2])
    named = re.search(r"replica_groups=mesh\[([^\]]*)\] \{([^}]*)\}", line)
    if named:
        sizes: Sequence[tuple[str, str]] = re.findall(r"'(\w+)'=(\d+)", named[1])
        return math.prod(int(size) for axis, size in sizes if f"'{axis}'" in named[2])
    return 2 if "source_target_pairs" in line else devices
