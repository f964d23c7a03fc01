"""The package `verifiers`, which is an extra: its interface of tasksets, tasks and toolsets."""

import importlib
from typing import Any

from r1ci_jax.errors import UserError
from r1ci_jax.install_advice import install_extra


def load() -> Any:
    """Import the package's interface `verifiers.v1`.

    Raises:
        UserError: The package is missing, or a release without this interface.
    """
    try:
        return importlib.import_module("verifiers.v1")
    except ImportError as error:
        raise UserError(
            f"the package verifiers does not work here ({error}); install it with "
            f"`{install_extra('verifiers')}`, best into an environment of its own: it and "
            "the extra endpoint need different releases of openai"
        ) from error
