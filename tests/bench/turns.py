"""Chat turns and questions for the benchmarks: LoCoMo's where the data is there, else the chats in `bundles/`.

LoCoMo is not part of the project (CC BY-NC): `MEMOS_BENCH_DATA` names the folder of locomo-dev.json, by default
`../shared/data` beside the checkout. Without it the two chats of `bundles/corpus` are repeated with other names and
numbers, so that no text comes twice.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count, islice
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent.parent
CORPUS = ROOT / "bundles" / "corpus" / "chats"


@dataclass(frozen=True, slots=True)
class Turn:
    """What was said: `conversation` is the cube it belongs to, `ref` names it there."""

    conversation: str
    ref: str
    session: str
    time: str
    speaker: str
    text: str

    def line(self) -> str:
        """The turn as a line of JSONL, as `memos ingest` reads it."""
        told = {"id": self.ref, "session": self.session, "time": self.time, "speaker": self.speaker}
        return json.dumps({**told, "text": self.text}, ensure_ascii=False) + "\n"


@dataclass(frozen=True, slots=True)
class Question:
    """A question and the refs of the turns that answer it."""

    conversation: str
    text: str
    evidence: tuple[str, ...]


def data_folder() -> Path:
    """Where the data sets are, if anywhere."""
    return Path(os.environ.get("MEMOS_BENCH_DATA") or ROOT.parent / "shared" / "data")


def locomo() -> list[dict[str, Any]]:
    """The conversations of LoCoMo; none where the file is absent."""
    path = data_folder() / "locomo-dev.json"
    return list(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else []


def turns(number: int) -> list[Turn]:
    """The first `number` turns there are."""
    found = list(islice(_locomo_turns(), number))
    return found if len(found) == number else list(islice(_corpus_turns(), number))


def source_name() -> str:
    """What the turns are, for the report."""
    return "LoCoMo" if locomo() else "bundles/corpus/chats, repeated with variation"


def _locomo_turns() -> Iterator[Turn]:
    for talk in locomo():
        held = talk["conversation"]
        for session in (f"session_{number}" for number in count(1)):
            if session not in held:
                break
            for said in held[session]:
                caption = f" [shares a photo: {said['blip_caption']}]" if said.get("blip_caption") else ""
                yield Turn(
                    talk["sample_id"], said["dia_id"], session, held[f"{session}_date_time"], said["speaker"],
                    said["text"] + caption,
                )  # fmt: skip


def questions(conversations: set[str], *, refs: set[tuple[str, str]]) -> list[Question]:
    """Questions of categories 1 to 4 whose evidence is all among the (conversation, ref) pairs that are given."""
    found = []
    for talk in locomo():
        name = talk["sample_id"]
        for asked in talk["qa"] if name in conversations else ():
            evidence = tuple(ref for part in asked.get("evidence", ()) for ref in re.findall(r"D\d+:\d+", part))
            if asked["category"] != 5 and evidence and all((name, ref) in refs for ref in evidence):
                found.append(Question(name, asked["question"], evidence))
    return found


def _corpus_turns() -> Iterator[Turn]:
    said = [line for path in sorted(CORPUS.iterdir()) for line in _said(path)]
    for lap in count(1):
        for number, (speaker, text) in enumerate(said):
            at = f"2024-{1 + lap % 12:02d}-{1 + number % 28:02d}T10:00:00Z"
            varied = f"{text} That was visit {lap}, number {number}."
            yield Turn(f"corpus-{lap}", f"{lap}:{number}", f"session_{number // 20}", at, speaker, varied)


def _said(path: Path) -> Iterator[tuple[str, str]]:
    for line in path.read_text(encoding="utf-8").splitlines():
        if path.suffix == ".jsonl":
            record = json.loads(line)
            for message in record.get("messages", [record]):
                yield str(message.get("speaker") or message.get("role")), str(message.get("text") or message["content"])
        elif match := re.match(r"(?:\[[^\]]*\] )?([A-Z]\w+): (.+)", line):
            yield match[1], match[2]
