"""Writes the schema of every `--json` output from the dataclass that the Memory API returns for it.

    python -m schemas.generate            write them
    python -m schemas.generate --check    exit 1 when one is stale

memcube.schema.json and manifest.schema.json describe files, not outputs, and are written by hand.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from memos_cli.infrastructure.declassified import Declassified
from memos_cli.interface import (
    evidence,
    found,
    many,
    parameters,
    planned,
    ran,
    results,
    shared,
    shipped,
    tested,
    tidied,
    tracing,
    united,
)
from memos_cli.interface.mending import Treated
from memos_cli.interface.schema import schema_of
from memos_cli.operation.findings import Audit

HERE = Path(__file__).parent
DRAFT = "https://json-schema.org/draft/2020-12/schema"

# The file's stem, and the type of one line of output. `list`, `log` and `query` have two shapes, one for each kind of
# question.
OUTPUTS: dict[str, type] = {
    "init": results.Created,
    "ingest": results.Ingested,
    "query": found.Found,
    "query-answer": found.Answered,
    "list": results.CubeInfo,
    "list-memories": results.Memory,
    "show": results.CubeInfo,
    "show-memory": results.Memory,
    "log": results.LogEntry,
    "log-memory": results.MemoryEvent,
    "log-declassified": Declassified,
    "diff": results.Differed,
    "edit": results.Changed,
    "forget": results.Changed,
    "forget-purge": evidence.Purged,
    "rollback": results.Changed,
    "tag": results.Changed,
    "reindex": results.Changed,
    "convert": results.Converted,
    "convert-each": many.Each,
    "convert-summary": many.Summary,
    "convert-export": results.Exported,
    "convert-plaintext": parameters.Elicited,
    "distill": results.Distilled,
    "distill-change": results.Changed,
    "distill-fuse": parameters.Fused,
    "rebind": results.Rebound,
    "tidy": tidied.Tidied,
    "fuse": united.FusedCubes,
    "schedule": planned.Planned,
    "schedule-each": many.Each,
    "schedule-summary": many.Summary,
    "schedule-explain": planned.Explained,
    "schedule-replay": planned.Replayed,
    "schedule-self-test": tested.SelfTested,
    "export": shared.TakenOut,
    "pack": shared.Packed,
    "unpack": shared.Unpacked,
    "trust": shared.Trusted,
    "keys": shared.KeyInfo,
    "serve": shared.ServerInfo,
    "clients": shared.ClientInfo,
    "clients-log": evidence.AccessLine,
    "push": shipped.Pushed,
    "pull": shipped.Pulled,
    "search": shipped.Listed,
    "info": shipped.PackageInfo,
    "install": shipped.Installed,
    "upgrade": shipped.Installed,
    "outdated": shipped.Outdated,
    "require": shipped.Required,
    "yank": shipped.Yanked,
    "index": shipped.Indexed,
    "migrate": results.Changed,
    "gc": results.Collected,
    "audit": Audit,
    "audit-each": many.Each,
    "audit-summary": many.Summary,
    "audit-log": evidence.AccessLine,
    "audit-checkpoint": evidence.Checkpointed,
    "audit-trace": tracing.Traced,
    "doctor": Treated,
    "run": ran.Ran,
}


def written() -> dict[Path, str]:
    """Each file and what it should hold."""
    texts = {}
    for stem, kind in OUTPUTS.items():
        title = f"one line of `memos {stem.partition('-')[0]} --json`"
        body = {"$schema": DRAFT, "$id": f"memos:{stem}", "title": title, **schema_of(kind)}
        texts[HERE / f"{stem}.schema.json"] = json.dumps(body, indent=2) + "\n"
    return texts


def main() -> int:
    """Writes or checks; the exit code."""
    stale = [path for path, text in written().items() if not path.exists() or path.read_text() != text]
    if "--check" in sys.argv:
        for path in stale:
            sys.stderr.write(f"stale: {path.relative_to(HERE.parent)}; run: make schemas\n")
        return 1 if stale else 0
    for path in stale:
        path.write_text(written()[path])
    return 0


if __name__ == "__main__":
    sys.exit(main())
