"""What canaries cost the one who has them: evidence recall of a copy with so many of them, beside the cube itself.

    python -m tests.bench.canaries [CONVERSATIONS]

Each conversation of LoCoMo is a cube, and is packed with 0, 5, 20 and 100 canaries; every copy is asked every question
of categories 1 to 4. Recall is the share of the evidence among the first k; `shown` is the share of the first five hits
that are canaries, which is what a reader of the copy meets of them. Needs LoCoMo. The last line is JSON.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

from memos_cli.interface import api
from tests.bench.turns import Question, _locomo_turns, locomo, questions

COUNTS = (0, 5, 20, 100)
DEPTHS = (5, 10)


def main() -> None:
    """Prints the table, and the line of JSON."""
    names = [talk["sample_id"] for talk in locomo()][: int(sys.argv[1]) if len(sys.argv) > 1 else 2]
    if not names:
        sys.exit("LoCoMo is not here: MEMOS_BENCH_DATA names the folder of locomo-dev.json")
    sums = {count: [0.0] * (len(DEPTHS) + 1) for count in COUNTS}
    asked = 0
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            wanted = _questions(name)
            asked += len(wanted)
            cube = _make(Path(folder), name)
            for count in COUNTS:
                found = _ask(cube, count, wanted)
                sums[count] = [before + more for before, more in zip(sums[count], found, strict=True)]
    figures = {count: [round(one / asked, 4) for one in sums[count]] for count in COUNTS}
    print(f"{asked} questions of {len(names)} conversations\n")  # noqa: T201
    print("canaries  recall@5  recall@10  shown in the first 5")  # noqa: T201
    for count, (five, ten, shown) in figures.items():
        print(f"{count:8}  {five:8.3f}  {ten:9.3f}  {shown:.4f}")  # noqa: T201
    print(json.dumps({"questions": asked, "canaries": figures}))  # noqa: T201


def _questions(name: str) -> list[Question]:
    refs = {(turn.conversation, turn.ref) for turn in _locomo_turns() if turn.conversation == name}
    return questions({name}, refs=refs)


def _make(top: Path, name: str) -> Path:
    source = top / f"{name}.jsonl"
    source.write_text("".join(turn.line() for turn in _locomo_turns() if turn.conversation == name), encoding="utf-8")
    cube = top / f"{name}.cube"
    api.ingest(cube, [str(source)], embedder="minilm")
    return cube


def _ask(cube: Path, count: int, wanted: list[Question]) -> list[float]:
    """Sums over the questions: recall at each depth, and the share of canaries among the first five."""
    copy = cube
    if count:
        copy = cube.with_name(f"{cube.stem}-{count}.cube")
        api.unpack(
            api.pack(cube, cube.with_suffix(".memcube"), recipient="x", canaries=count, replace_file=True).path, copy
        )
    own = {one.text for one in api.memories(cube)}
    sums = [0.0] * (len(DEPTHS) + 1)
    for asked, found in zip(wanted, api.query_many([copy], [one.text for one in wanted], k=max(DEPTHS)), strict=True):
        refs = [hit.ref for hit in found.hits]
        for number, depth in enumerate(DEPTHS):
            sums[number] += len(set(asked.evidence) & set(refs[:depth])) / len(set(asked.evidence))
        sums[-1] += sum(hit.text not in own for hit in found.hits[:5]) / 5
    return sums


if __name__ == "__main__":
    main()
