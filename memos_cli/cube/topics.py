"""The topic path of a memory, `task/concept/fact`: the one that was set, else one that tells where it stands.

Worked out whenever it is asked, in Python for one row and in SQL for a filter, so it needs no column, costs an ingest
nothing and is never out of date: the title of the source, its headings, and of a pair what stands before the colon; in
lower case, with a dash for a space or a slash. The two must say the same; a test compares them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

COLUMNS = ("topic", "title", "source", "section", "kind", "text")


def path_of(row: Mapping[str, Any]) -> str:
    """The topic path of a row (of COLUMNS)."""
    if row["topic"]:
        return str(row["topic"])
    parts = [_dashed(row["title"] or row["source"]), _dashed(row["section"]).replace("->-", "/")]
    if row["kind"] == "pair":
        parts.append(_dashed(str(row["text"]).split(":", 1)[0]))
    return "/".join(parts).replace("//", "/").strip("/")


def condition(compared: Callable[[str], str]) -> str:
    """The SQL condition of which `compared` makes the part about a path, given as an SQL expression."""
    place = f"{_sql_dashed(_TITLE)}, '/', replace({_sql_dashed('section')}, '->-', '/')"
    key = _sql_dashed("split_part(text, ':', 1)")
    told, paired = (f"btrim(replace(concat({place}{more}), '//', '/'), '/')" for more in ("", f", '/', {key}"))
    branches = {
        "topic != ''": "topic", "topic = '' and kind != 'pair'": told, "topic = '' and kind = 'pair'": paired
    }  # fmt: skip
    return " or ".join(f"({which} and ({compared(path)}))" for which, path in branches.items())


_TITLE = "coalesce(nullif(title, ''), source)"


def _dashed(text: str) -> str:
    return str(text).lower().replace("/", "-").replace(" ", "-")


def _sql_dashed(text: str) -> str:
    return f"replace(replace(lower({text}), '/', '-'), ' ', '-')"
