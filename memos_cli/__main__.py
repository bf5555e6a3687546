"""The door: `memos` and `python -m memos_cli`.

The list of commands is printed from a text that is made from the program and held to it by a test: importing typer
only to print it would take four times as long.
"""

from __future__ import annotations

import sys
from pathlib import Path

HELP = Path(__file__).with_name("help.txt")


def main() -> None:
    """Runs the program on sys.argv and exits."""
    if sys.argv[1:] in ([], ["--help"], ["-h"]) and HELP.exists():
        sys.stdout.write(HELP.read_text(encoding="utf-8"))
        return
    from memos_cli import cli

    cli.main()


if __name__ == "__main__":
    main()
