"""The door: `memos` and `python -m memos_cli`.

The list of commands is printed from a text that is made from the program and held to it by a test: importing typer
only to print it would take four times as long.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

HELP = Path(__file__).with_name("help.txt")


def main() -> None:
    """Runs the program on sys.argv and exits."""
    _open_closed()
    if sys.argv[1:] in ([], ["--help"], ["-h"]) and HELP.exists():
        _write(HELP.read_text(encoding="utf-8"))
        return
    try:
        from memos_cli import cli

        cli.main()
    except KeyboardInterrupt:  # pressed before a command began
        sys.stderr.write("memos: interrupted\n")
        sys.exit(130)


def _open_closed() -> None:
    """Opens what was closed on us (`<&-`), lest a file of a cube gets its number and what is printed lands in there."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115  open until the program ends


def _write(text: str) -> None:
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:  # `memos --help | head -1`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    main()
