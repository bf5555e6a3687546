"""Writes docs/reference/cli.md and the text of `memos --help` from the program itself.

python -m docs.generate            write them
python -m docs.generate --check    exit 1 when one is stale
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import typer
from typer.testing import CliRunner

from memos_cli import cli
from memos_cli.__main__ import HELP

HERE = Path(__file__).parent
REFERENCE = HERE / "reference" / "cli.md"
WIDTH = {"TERMINAL_WIDTH": "100", "COLUMNS": "100", "NO_COLOR": "1"}

CODES = """
## Exit codes

| code | meaning |
|---|---|
| 0 | done |
| 1 | failed, for a reason with no code of its own |
| 2 | usage |
| 3 | not found |
| 4 | damaged, invalid or unsafe input |
| 5 | not allowed |
| 6 | the memory was made for another model |
| 7 | store or network |
| 8 | locked by another writer |
| 9 | a check fell short |
| 10 | done in part: `--skip-bad` left something out and says what |
| 130 | interrupted |

## Settings

A flag wins over its `MEMOS_*` variable, that over `./memos.toml`, that over `$MEMOS_HOME/config.toml`, that over the
default. A settings file has a table per command and a table `[memos]` for options that several share:

```toml
[memos]
embedder = "none"

[query]
limit = 5
```

`memos -v COMMAND` says where each value came from. `MEMOS_HOME` (default `~/.memos`) holds named cubes, keys and
caches. `MEMOS_DEBUG=1` shows the traceback of an error.
"""


def help_of(app: typer.Typer, *words: str) -> str:
    """What the program prints for `memos WORDS --help`."""
    result = CliRunner(env=WIDTH).invoke(app, [*words, "--help"], prog_name="memos", color=False)
    assert result.exit_code == 0, result.output
    return "\n".join(line.rstrip() for line in result.output.strip().splitlines()) + "\n"


def written() -> dict[Path, str]:
    """Each file and what it should hold."""
    app: Any = cli.build()
    top = help_of(app)
    parts = ["# The commands\n", "Made from the program by `make docs`; a test holds the two together.\n"]
    parts += ["```text", top.rstrip(), "```\n"]
    for name in cli.COMMANDS:
        parts += [f"## memos {name}\n", "```text", help_of(app, name).rstrip(), "```\n"]
    return {HELP: top, REFERENCE: "\n".join(parts) + CODES}


def main() -> int:
    """Writes or checks; the exit code."""
    texts = written()
    stale = [path for path, text in texts.items() if not path.exists() or path.read_text() != text]
    if "--check" in sys.argv:
        for path in stale:
            sys.stderr.write(f"stale: {path}; run: make docs\n")
        return 1 if stale else 0
    for path in stale:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(texts[path])
    return 0


if __name__ == "__main__":
    sys.exit(main())
