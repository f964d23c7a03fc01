"""`python -m r1ci_jax` is the r1ci command."""

import sys

from r1ci_jax.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
