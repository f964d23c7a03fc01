"""Downloads from the Hugging Face hub say in one line what came of them."""

import contextlib
from collections.abc import Iterator


@contextlib.contextmanager
def quiet_hub() -> Iterator[None]:
    """Hide the hub library's lines about each attempt; the caller reports the result."""
    from huggingface_hub.utils import logging  # slow to import

    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(before)
