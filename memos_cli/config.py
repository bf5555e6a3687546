"""Settings, and where each came from: flag > MEMOS_* > ./memos.toml > user file > default.

A settings file has a table per command (`[query] limit = 5`) and a `[memos]` table for options that several
commands share (`[memos] embedder = "none"`). This is the only file that reads settings; commands get values.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from memos_cli.errors import Usage

PROJECT_FILE = "memos.toml"
USER_FILE = "config.toml"


def is_set(*, home: Path) -> bool:
    """Whether there is any settings file."""
    return any(path.is_file() for path in _files(home))


def _files(home: Path) -> tuple[Path, Path]:
    return home / USER_FILE, Path(PROJECT_FILE)  # the later one wins


# What a folder that somebody else wrote must not decide: a yes, where text may be sent, what is written where, what is
# started, who may see it, and whether made-up memories go along.
PERSONAL = frozenset({
    "yes", "extract", "extract_url", "runtime", "base_url", "reader", "remember", "writer", "writer_url", "report",
    "checkpoint", "engine",
    "update_baseline", "repair", "table",
    "recipient", "canaries",
    "read_scope", "write_scope", "share_scope", "rules", "hold", "freeze", "declassify",
})  # fmt: skip


def default_map(*, home: Path, commands: dict[str, dict[str, str]]) -> tuple[dict[str, Any], dict[str, str]]:
    """typer's default_map, and per `command.option` the file it came from.

    `commands` has, per command, the words for an option and the name of its parameter. Raises Usage for unknown words.
    """
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for path in _files(home):
        if path.is_file():
            _merge(path, values, origins, commands)
    return values, origins


def _merge(path: Path, values: dict[str, Any], origins: dict[str, str], commands: dict[str, dict[str, str]]) -> None:
    from memos_cli.cube.toml import read_toml

    for table, options in read_toml(path).items():
        targets = sorted(commands) if table == "memos" else [table]
        if table != "memos" and table not in commands:
            raise Usage(f"{path}: expected a table [memos] or one named after a command, found [{table}]")
        if not isinstance(options, dict):
            raise Usage(f"{path}: expected {table} to be a table, found {type(options).__name__}")
        for option, value in options.items():
            word = option.replace("-", "_")
            takers = {command: commands[command][word] for command in targets if word in commands[command]}
            if not takers:
                raise Usage(f"{path}: no such option {option!r} in [{table}]")
            if not PERSONAL.isdisjoint({word, *takers.values()}) and path == Path(PROJECT_FILE):
                raise Usage(
                    f"{path}: {option} is for a person to decide, not for the settings of a folder",
                    hint=f"the flag --{word.replace('_', '-')}, or {USER_FILE} in MEMOS_HOME",
                )
            for command, name in takers.items():
                values.setdefault(command, {})[name] = value
                origins[f"{command}.{name}"] = str(path)
