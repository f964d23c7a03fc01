"""The code that runs inside a jail, as bytes to send there: the jail's files contain none of it."""

import functools
import importlib.util
import marshal
import pathlib
from collections.abc import Sequence
from typing import Any, Final

from r1ci_jax.sandbox.host.jail_python import JailPython

COLD: Final = ("traceback_text", "script", "collect", "supervisor")
FORK_SERVER: Final = (
    *("traceback_text", "script", "collect", "namespaces", "child", "preload", "session_process"),
    "fork_server",
)
"""Modules of `sandbox.jail` in the order of their imports; `main` of the last one is called."""

# BOOT runs first: it receives modules and arguments over descriptor 0 and calls the last main.
BOOT: Final = """
import marshal, os, sys
left = int(os.read(0, 10))
parts = []
while left:
    parts.append(os.read(0, min(left, 1 << 20)))
    if not parts[-1]: os._exit(1)
    left -= len(parts[-1])
programs, arguments = marshal.loads(b"".join(parts))
kind = type(sys)
for name in ("r1ci_jax", "r1ci_jax.sandbox", "r1ci_jax.sandbox.jail"):
    package = sys.modules[name] = kind(name)
for name, program in marshal.loads(programs):
    module = kind("r1ci_jax.sandbox.jail." + name)
    sys.modules[module.__name__] = module
    setattr(package, name, module)
    exec(program, module.__dict__)
for name in [name for name in sys.modules if name.startswith("r1ci_jax")]: del sys.modules[name]
module.main(*arguments, *map(int, sys.argv[1:]))
"""
OPTIONS: Final = ("-S", "-s", "-P", "-c", BOOT)
"""Options of the jail's interpreter."""


@functools.lru_cache(maxsize=8)
def programs(modules: tuple[str, ...], python: JailPython) -> bytes:
    """Return the modules for this interpreter: as bytecode where ours fits it, else as source."""
    here = pathlib.Path(__file__).parents[1] / "jail"
    sources = {name: (here / f"{name}.py").read_text("utf-8") for name in modules}
    if python.magic != importlib.util.MAGIC_NUMBER.hex():
        return marshal.dumps(list(sources.items()), 4)
    compiled = [
        (name, compile(source, f"<jail: {name}>", "exec", dont_inherit=True, optimize=2))
        for name, source in sources.items()
    ]
    return marshal.dumps(compiled, 4)


def message(modules: tuple[str, ...], python: JailPython, arguments: Sequence[Any]) -> bytes:
    """Return the message that BOOT reads. The arguments have types that marshal supports."""
    payload = marshal.dumps((programs(modules, python), tuple(arguments)), 4)
    return b"%010d" % len(payload) + payload
