"""`python -m aejax` is the `aejax` command."""

from aejax.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
