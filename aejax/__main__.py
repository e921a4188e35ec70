"""`python -m aejax` is the `aejax` command."""

import sys

from aejax.cli import main

if __name__ == "__main__":
    sys.exit(main())
