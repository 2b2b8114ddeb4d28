"""`predawn` and `python -m predawn.server`."""

from predawn.server.cli.app import main

__all__ = ["main"]

if __name__ == "__main__":
    main()
