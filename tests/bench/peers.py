"""Other memory tools on the same turns and questions, with the same MiniLM, each in a process of its own.

mem0 (infer=False: no language model), txtai hybrid, Chroma, LanceDB's own hybrid, and memos through its API. They live
in an environment of their own, `.bench/peers`, that borrows torch and the like from this one; the first run installs
them, and one that cannot be installed is left out and named. Told per tool: turns added a second (embedding included),
median milliseconds of a query, recall@10 of the evidence turns (LoCoMo categories 1 to 4, filtered by conversation;
memos keeps a cube per conversation), most memory held, and disk. mem0 and txtai embed with torch, the others with
memos' own graph of the same model. Nothing may use a network once installed. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.bench import timing
from tests.bench.turns import ROOT, questions, source_name, turns

PLACE = ROOT / ".bench" / "peers"
PACKAGES = {"mem0": ["mem0ai", "faiss-cpu"], "txtai": ["txtai"], "chroma": ["chromadb"], "lancedb": [], "memos": []}
QUIET = {
    "HF_HUB_OFFLINE": "1", "MEM0_TELEMETRY": "False", "ANONYMIZED_TELEMETRY": "False", "LANCE_LOG": "error",
    "TOKENIZERS_PARALLELISM": "false",
}  # fmt: skip


def environment() -> Path:
    """The Python of the peers' environment, made when absent."""
    python = PLACE / "bin" / "python"
    if not python.exists():
        made = timing.run([sys.executable, "-m", "venv", str(PLACE)])
        if made.code:
            raise SystemExit(made.out)
        (site,) = PLACE.glob("lib/python*/site-packages")
        (site / "memos.pth").write_text("\n".join(path for path in sys.path if path.endswith("site-packages")))
    return python


def install(python: Path, name: str) -> str:
    """Installs a peer; "" when it is there, else why it is not."""
    wanted = PACKAGES[name]
    if not wanted or not timing.run([str(python), "-m", "pip", "show", "-q", *wanted]).code:
        return ""
    done = timing.run([str(python), "-m", "pip", "install", "-q", "--no-input", *wanted])
    return "" if not done.code else done.out.strip().splitlines()[-1]


def run_peer(python: Path, name: str, given: Path) -> dict[str, Any]:
    """One tool's figures, from a process of its own in an empty folder."""
    with tempfile.TemporaryDirectory() as folder:
        env = timing.light(PYTHONPATH=str(ROOT), MEMOS_HOME=f"{folder}/home", MEM0_DIR=f"{folder}/mem0", **QUIET)
        env.pop("OPENAI_API_KEY", None)
        done = timing.run([str(python), "-m", "tests.bench.peer", name, str(given), folder], env=env)
    lines = done.out.strip().splitlines()
    if done.code or not lines:
        return {"tool": name, "failed": lines[-1][:120] if lines else f"exit {done.code}"}
    told: dict[str, Any] = json.loads(lines[-1])
    lasted = [milliseconds / 1000 for milliseconds in told.pop("query_ms")]
    return {
        "tool": name, "turns/s": round(told["turns"] / told["add_s"], 1),
        "p50 ms": round(1000 * statistics.median(lasted), 1), "recall@10": told["recall"],
        "rss MB": round(done.rss_mb), "disk MB": told["disk_mb"],
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=1000)
    parser.add_argument("--tools", nargs="*", choices=list(PACKAGES), default=list(PACKAGES))
    given = parser.parse_args()
    said = turns(given.turns)
    refs = {(turn.conversation, turn.ref) for turn in said}
    asked = questions({turn.conversation for turn in said}, refs=refs)
    python, results, left_out = environment(), [], {}
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data.json"
        data.write_text(
            json.dumps(
                {
                    "turns": [[turn.conversation, turn.ref, turn.speaker, turn.text, turn.line()] for turn in said],
                    "asked": [[each.conversation, each.text, each.evidence] for each in asked],
                }
            ),
            encoding="utf-8",
        )
        for name in given.tools:
            why = install(python, name)
            result = {"tool": name, "failed": why} if why else run_peer(python, name, data)
            if "failed" in result:
                left_out[name] = result["failed"]
            else:
                results.append(result)
            timing.say(f"{name}: {'left out: ' + left_out[name] if name in left_out else 'done'}")
    timing.say(f"{len(said)} turns of {source_name()}, {len(asked)} questions")
    timing.table(results)
    timing.finish("peers", {"turns": len(said), "questions": len(asked), "tools": results, "left_out": left_out})


if __name__ == "__main__":
    main()
