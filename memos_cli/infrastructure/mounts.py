"""Where a folder really lies: the kind of file system, and whether its locks can be trusted.

Read from the kernel's own table of mounts; on a system without one nothing is said, and nothing is refused.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

TABLE = Path("/proc/self/mountinfo")
# On these a lock taken on one machine may not be seen on another, and a rename may not be seen at once.
NETWORK = frozenset({"afs", "cifs", "fuse.sshfs", "ncpfs", "nfs", "nfs4", "smb3", "smbfs"})
_ESCAPE = re.compile(r"\\([0-7]{3})")


def filesystem(path: Path) -> str:
    """The kind of file system that `path` lies on, such as ext4 or nfs4; "" where the system does not tell."""
    try:
        table = TABLE.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return ""
    return kind_in(table, os.path.realpath(path))


def kind_in(table: str, path: str) -> str:
    """The kind of the mount that holds `path`, by a mount table; of mounts on the same folder the last one counts."""
    best, kind = -1, ""
    for line in table.splitlines():
        fields, _, rest = line.partition(" - ")
        parts = fields.split(" ")
        if len(parts) < 5 or not rest:
            continue
        folder = _ESCAPE.sub(lambda match: chr(int(match[1], 8)), parts[4]).rstrip("/")
        if (path == folder or path.startswith(folder + "/")) and len(folder) >= best:
            best, kind = len(folder), rest.split(" ", 1)[0]
    return kind
