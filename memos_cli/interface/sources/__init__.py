"""Sources: files, folders and stdin as pieces with provenance. Parsers are imported when their format is met.

A chat, a transcript, a table, a program or a document is told from its content; each piece knows the lines, page, turn,
session, speaker and time it came from. Knows nothing of cubes, tables and models.
"""

from memos_cli.interface.sources.formats import FORMATS
from memos_cli.interface.sources.limits import LIMITS, Limits
from memos_cli.interface.sources.source import Bad, Source
from memos_cli.interface.sources.walk import Skip, expand

__all__ = ["FORMATS", "LIMITS", "Bad", "Limits", "Skip", "Source", "expand"]
