"""`r1ci --version`: versions, the devices that JAX finds, and the isolation of scripts."""

import importlib.metadata
import platform
from typing import Final

import r1ci_jax
from r1ci_jax.sandbox.host import tiers

PACKAGES: Final = ("jax", "jaxlib", "flax", "libtpu", "jax-cuda13-plugin")
"""Packages that decide which devices there are, those that are not installed left out."""


def describe() -> str:
    """Return the lines of `r1ci --version`. It imports JAX, and opens the devices for a moment."""
    tier, obstacle = tiers.local()
    lines = {
        "r1ci": f"{r1ci_jax.__version__} ({r1ci_jax.__path__[0]})",
        "Python": f"{platform.python_version()} on {platform.system()} {platform.machine()}",
        "packages": ", ".join(_installed()),
        "devices": _describe_devices(),
        "sandbox": str(tier) + (f" ({obstacle})" if obstacle else ""),
        "": "r1ci sandbox doctor tries the sandbox",
    }
    return "\n".join(f"{name:<9} {text}" for name, text in lines.items())


def _installed() -> list[str]:
    found = []
    for name in PACKAGES:
        try:
            found.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _describe_devices() -> str:
    """Name and count the kinds of devices; in use by another process, they cannot be opened."""
    import jax

    try:
        devices = jax.devices()
    except RuntimeError as error:
        return f"cannot be opened ({' '.join(str(error).split())})"
    kinds = [device.device_kind for device in devices]
    return ", ".join(f"{kinds.count(kind)} x {kind}" for kind in dict.fromkeys(kinds))
