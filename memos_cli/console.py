"""What the program prints: stdout is data, stderr is talk.

A terminal gets a table, a pipe gets tab-separated whole values, `--json` one object (one a line for lists) and
`-q` ids only. Text that comes from memories is never trusted: control characters, escape sequences and
bidirectional overrides are shown as `\\x1b` and the like, and rich never parses it as markup.
"""

from __future__ import annotations

import dataclasses
import io
import json
import os
import re
import stat
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

_CONTROLS = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]"
)

Progress = Callable[[int, int | None, str], None]


def safe(text: object) -> str:
    """`text` with what could drive a terminal made visible; tabs and newlines stay."""
    return _CONTROLS.sub(lambda match: _visible(match.group()), str(text))


def _visible(character: str) -> str:
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def cell(value: object) -> str:
    """One value of a tab-separated line: whole, on one line."""
    if value is None:
        return ""
    if isinstance(value, list | tuple):
        value = ",".join(str(item) for item in value)
    if isinstance(value, float):
        value = f"{value:.4g}"
    return safe(value).replace("\t", "\\t").replace("\r", "\\r").replace("\n", "\\n")


def _short(value: object) -> str:
    """One value of a table that a person reads: on one line, for the table folds it anyway."""
    return safe(" ".join(str(value).split())) if isinstance(value, str) else cell(value)


def plain(value: Any) -> Any:
    """A dataclass and what it holds as JSON values."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    return str(value) if isinstance(value, Path) else value


def to_json(value: Any) -> str:
    """One line of JSON; characters that could drive a terminal are escaped, as JSON allows inside strings."""
    line = json.dumps(plain(value), ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return _CONTROLS.sub(lambda match: f"\\u{ord(match.group()):04x}", line)


class Output:
    """Where one command's results go, in the form that was asked for."""

    def __init__(self, *, json: bool = False, quiet: bool = False) -> None:
        self.json, self.quiet = json, quiet
        self.terminal = sys.stdout.isatty()
        self._open = False

    @property
    def destination(self) -> str:
        """Where stdout goes, in the words of governance: a `file`, or `here` for a terminal or another program."""
        try:
            return "file" if stat.S_ISREG(os.fstat(sys.stdout.fileno()).st_mode) else "here"
        except (OSError, ValueError):  # a stream of this process
            return "here"

    def rows(
        self, items: Iterable[Any], columns: dict[str, Callable[[Any], object]], *, ids: Callable[[Any], str]
    ) -> None:
        """A list: a table, tab-separated lines, JSON lines, or ids."""
        if self.json:
            for item in items:
                self._write(to_json(item))
        elif self.quiet:
            for item in items:
                self._write(cell(ids(item)))
        elif self.terminal:
            self._table([[_short(get(item)) for get in columns.values()] for item in items], list(columns))
        else:
            for item in items:
                self._write("\t".join(cell(get(item)) for get in columns.values()))

    def one(self, item: Any, lines: Iterable[str], *, ids: Iterable[str] = ()) -> None:
        """One result: JSON, ids, or the lines a person reads."""
        for line in [to_json(item)] if self.json else ids if self.quiet else lines:
            self._write(line if self.json else safe(line))

    def say(self, text: str) -> None:
        """Talk, to stderr; silent under -q."""
        if not self.quiet:
            print(f"memos: {safe(text)}", file=sys.stderr)  # noqa: T201  the one place that prints

    def piece(self, text: str) -> None:
        """A part of a text that is still being written, on stdout at once."""
        self._open = not text.endswith("\n") if text else self._open
        sys.stdout.write(safe(text))
        sys.stdout.flush()

    def end_line(self) -> None:
        """Ends the line that a piece left open, so that what follows stands on its own."""
        if self._open:
            self.piece("\n")

    def progress(self, label: str) -> Progress | None:
        """A callable (done, total, what) that draws a bar on a terminal's stderr; None elsewhere."""
        return None if self.quiet or not sys.stderr.isatty() else _bar(label)

    def _write(self, line: str) -> None:
        print(line.encode("utf-8", "replace").decode("utf-8"))  # noqa: T201  the one place that prints

    def _table(self, rows: Sequence[Sequence[str]], names: Sequence[str]) -> None:
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        table = Table(box=None, header_style="bold", pad_edge=False)
        for name in names:
            table.add_column(name, overflow="fold")
        for row in rows:
            table.add_row(*(Text(value) for value in row))
        if rows:
            Console().print(table)
        else:
            self.say("nothing to list")


def _bar(label: str) -> Progress:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    bar = Progress(
        TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[what]}", markup=False),
        TimeRemainingColumn(), console=Console(stderr=True), transient=True,
    )  # fmt: skip
    bar.start()
    task = bar.add_task(label, total=None, what="")

    def update(done: int, total: int | None, what: str) -> None:
        bar.update(task, completed=done, total=total, what=safe(what)[-60:])
        if total is not None and done >= total:
            bar.stop()

    import atexit

    atexit.register(bar.stop)
    return update


def stdin_lines() -> Iterator[str]:
    """The lines that are piped in; bytes that are not UTF-8 become U+FFFD, for they can only be searched for."""
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(encoding="utf-8", errors="replace")
    yield from sys.stdin


def stdin_text() -> str:
    """All that is piped in, without space around it. Raises Usage when it is not UTF-8."""
    from memos_cli.errors import Usage

    try:
        return sys.stdin.buffer.read().decode("utf-8").strip()
    except UnicodeDecodeError as error:
        raise Usage(f"expected UTF-8 on stdin, found byte {error.object[error.start]:#04x} at {error.start}") from error


def choose(question: str, answers: Sequence[str], *, hint: str) -> str:
    """What a person answers, one of `answers`; asked again until it is. Raises Usage when nobody can be asked."""
    from memos_cli.errors import Usage

    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise Usage("nobody can be asked here: stdin and stderr are no terminal", hint=hint)
    while True:
        print(f"memos: {safe(question)} [{'/'.join(answers)}] ", end="", file=sys.stderr, flush=True)  # noqa: T201
        line = sys.stdin.readline()
        if not line:
            raise Usage("stopped: the input ended before the answer; nothing was changed")
        if (said := line.strip().lower()) in answers:
            return said


def confirm(question: str, *, yes: bool, flag: str = "--yes") -> None:
    """Returns when the person agrees. Raises Usage when nobody can be asked and the flag is absent, or on a no."""
    from memos_cli.errors import Usage

    if yes:
        return
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise Usage(f"{question} needs a yes, and nobody can be asked here", hint=f"the same command with {flag}")
    print(f"memos: {safe(question)} [y/N] ", end="", file=sys.stderr, flush=True)  # noqa: T201
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise Usage("stopped: the answer was no; nothing was changed")
