"""Load the policy's modules into the fork server, in a form that its children share."""

import ctypes
import gc
import importlib
import mmap
import sys

BARE_BYTES = 16 << 20
"""Address space of an interpreter that has loaded nothing."""


def preload(modules: list[str], warm_up: str) -> None:
    """Import modules that scripts often need, and run code that loads their lazy parts."""
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    packages = f"{sys.prefix}/lib/python{version}/site-packages"
    sys.path.append(packages)
    for module in modules:
        importlib.import_module(module)
    exec(compile(warm_up, "<warm-up>", "exec", dont_inherit=True), {"__name__": "warm_up"})
    sys.path.remove(packages)


def loaded_bytes() -> int:
    """Return the address space that the modules take.

    A script may map as much as in a cold jail, where it loads the modules itself.
    """
    with open("/proc/self/statm") as statm:
        mapped = int(statm.read().split()[0]) * mmap.PAGESIZE
    return max(0, mapped - BARE_BYTES)


def make_immortal() -> None:
    """Make every existing object immortal, as None is.

    Python then does not change their reference counts. So a child that uses a module does not write
    to the module's pages, and the Linux kernel does not copy them.
    """
    for_ever = ctypes.c_uint32.from_address(id(None)).value
    seen = set[int]()
    found = gc.get_objects()
    while found:
        fresh = []
        for thing in found:
            if id(thing) not in seen:
                seen.add(id(thing))
                fresh.append(thing)
        found = gc.get_referents(*fresh)
        del fresh
    for address in seen:
        ctypes.c_uint32.from_address(address).value = for_ever
