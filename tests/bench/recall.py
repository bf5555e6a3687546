"""Evidence recall on LoCoMo, through the path that a user takes, beside its baselines.

Each conversation is a cube of its own, made by `ingest` from a JSONL file; each question goes through `query`. A turn
counts as found when it is itself among the first k: neighbours do not count. Categories: 1 multi-hop, 2 temporal,
3 open-domain, 4 single-hop, 5 adversarial (its evidence is the other speaker's); the headline is 1 to 4. Intervals are
95% bootstraps over questions; between conversations recall varies by about five points, so read them as a floor.

In the same run, over the same turns: BM25 (Porter, `speaker: text`), MiniLM's cosine of the same, LanceDB's own hybrid
with its RRF reranker, grep (how many of the question's words a turn has), and what the same formula gives in memory
with a BM25 of our own over every turn, to tell what going through LanceDB's lists loses. With --longmemeval: sessions
found on LongMemEval-S, user and assistant chats, 36 questions with a table each; making them takes most of an hour.
The last line is JSON.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
import math
import os
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np  # noqa: TID253

from memos_cli.interface import api
from tests.bench import timing
from tests.bench.timing import Bar
from tests.bench.turns import ROOT, Turn, _locomo_turns, data_folder, locomo

DEPTHS = (5, 10, 20)
FLOORS = {"memos": 0.79, "memos, words only": 0.76, "memos, rerank": 0.81}
TARGETS = {"memos": 0.82, "memos, words only": 0.78, "memos, rerank": 0.83}
Ranker = Callable[[str], list[str]]


@dataclass(frozen=True, slots=True)
class Asked:
    """A question, its category and the refs of its evidence."""

    text: str
    category: int
    evidence: frozenset[str]


@dataclass(frozen=True, slots=True)
class Talk:
    """One conversation: its turns and its questions."""

    name: str
    turns: list[Turn]
    asked: list[Asked]


def talks() -> Iterator[Talk]:
    """The conversations. Malformed evidence ("D8:6; D9:17", "D:11:26", "D30:05") is repaired, or dropped if absent."""
    by_name: dict[str, list[Turn]] = defaultdict(list)
    for turn in _locomo_turns():
        by_name[turn.conversation].append(turn)
    for talk in locomo():
        turns = by_name[talk["sample_id"]]
        refs = {turn.ref for turn in turns}
        asked = []
        for entry in talk["qa"]:
            found = re.findall(r"D:?(\d+):(\d+)", " ".join(entry["evidence"]))
            evidence = frozenset(f"D{int(session)}:{int(turn)}" for session, turn in found) & refs
            if evidence:
                asked.append(Asked(entry["question"], entry["category"], evidence))
        yield Talk(talk["sample_id"], turns, asked)


def cube_of(talk: Talk, folder: Path, *, embedder: str) -> Path:
    """The cube of a conversation; kept between runs under a name that tells what it was made of."""
    lines = "".join(turn.line() for turn in talk.turns)
    key = hashlib.sha256(f"{lines}{embedder}{_code_digest()}".encode()).hexdigest()[:12]
    cube = folder / f"{talk.name}-{embedder}-{key}.cube"
    if not cube.exists():
        source = folder / f"{talk.name}.jsonl"
        source.write_text(lines, encoding="utf-8")
        api.ingest(cube, [source], embedder=embedder, home=folder / "home")
    return cube


def _code_digest() -> str:
    """Changes with what decides the content of a table."""
    code = hashlib.sha256()
    for part in (
        "operation/ingest.py",
        "operation/context.py",
        "runtime/minilm.py",
        "cube/search.py",
        "cube/plaintext.py",
    ):
        code.update((ROOT / "memos_cli" / part).read_bytes())
    return code.hexdigest()


def through_memos(cube: Path, home: Path, talk: Talk, **options: Any) -> list[list[str]]:
    """The refs that `query` gives for each question."""
    found = api.query_many([cube], [asked.text for asked in talk.asked], k=max(DEPTHS), home=home, **options)
    return [[hit.ref for hit in each.hits] for each in found]


# ---- baselines


def words_of(text: str) -> list[str]:
    """Stems of the words that are no function words."""
    import Stemmer

    from memos_cli.operation.cues import FUNCTION_WORDS

    kept = [word for word in re.findall(r"[a-z0-9]+", text.lower()) if word not in FUNCTION_WORDS]
    return list(Stemmer.Stemmer("english").stemWords(kept))


class Bm25:
    """BM25 over some texts, every text scored."""

    def __init__(self, texts: Sequence[str]) -> None:
        bags = [Counter(words_of(text)) for text in texts]
        lengths = np.array([sum(bag.values()) for bag in bags], float)
        norm = 1.2 * (0.25 + 0.75 * lengths / max(1.0, lengths.mean()))
        self.size = len(texts)
        self._rows: dict[str, np.ndarray] = {}
        by_word: dict[str, list[tuple[int, int]]] = defaultdict(list)
        for i, bag in enumerate(bags):
            for word, number in bag.items():
                by_word[word].append((i, number))
        for word, places in by_word.items():
            at = np.array([i for i, _ in places])
            number = np.array([n for _, n in places], float)
            rarity = math.log(1 + (self.size - len(at) + 0.5) / (len(at) + 0.5))
            self._rows[word] = np.stack([at, rarity * number * 2.2 / (number + norm[at])])

    def __call__(self, question: str) -> np.ndarray:
        scores = np.zeros(self.size)
        for word in words_of(question):
            if word in self._rows:
                at, score = self._rows[word]
                scores[at.astype(int)] += score
        return scores


def first(scores: np.ndarray, refs: Sequence[str]) -> list[str]:
    """The refs of the best scores."""
    return [refs[i] for i in np.argsort(-scores, kind="stable")[: max(DEPTHS)]]


def baselines(talk: Talk, embedder: Any, folder: Path) -> dict[str, Ranker]:
    """What one would use without memos."""
    refs = [turn.ref for turn in talk.turns]
    spoken = [f"{turn.speaker}: {turn.text}" for turn in talk.turns]
    vectors = embedder.embed(spoken)
    bm25 = Bm25(spoken)
    lowered = [text.lower() for text in spoken]

    def grep(question: str) -> list[str]:
        wanted = set(re.findall(r"[a-z0-9]{3,}", question.lower()))
        return first(np.array([sum(word in text for word in wanted) for text in lowered], float), refs)

    return {
        "grep": grep,
        "MiniLM": lambda question: first(vectors @ embedder.embed([question])[0], refs),
        "BM25": lambda question: first(bm25(question), refs),
        "LanceDB hybrid": lancedb_hybrid(folder / f"{talk.name}.lancedb", refs, spoken, vectors, embedder),
    }


def lancedb_hybrid(
    folder: Path, refs: Sequence[str], texts: Sequence[str], vectors: np.ndarray, embedder: Any
) -> Ranker:
    """LanceDB's own hybrid query: full text and vectors, fused by its RRF reranker."""
    from memos_cli.cube import lance

    lance.load()
    import lancedb
    from lancedb.index import FTS
    from lancedb.rerankers import RRFReranker

    rows = [
        {"ref": ref, "text": text, "vector": vector} for ref, text, vector in zip(refs, texts, vectors, strict=True)
    ]
    table = lancedb.connect(str(folder)).create_table("turns", rows, mode="overwrite")
    table.create_index("text", config=FTS())
    reranker = RRFReranker()

    def rank(question: str) -> list[str]:
        query = table.search(query_type="hybrid", vector_column_name="vector", fts_columns="text")
        query = query.vector(embedder.embed([question])[0]).text(question).distance_type("cosine").rerank(reranker)
        return list(query.limit(max(DEPTHS)).select(["ref"]).to_arrow()["ref"].to_pylist())

    return rank


def exact(talk: Talk, cube: Path, home: Path, embedder: Any, *, dense: bool) -> Ranker:
    """The same formula in memory: BM25 of our own, every turn a candidate."""
    from datetime import UTC, datetime

    from memos_cli.cube.plaintext import Memories
    from memos_cli.operation import holding, signals
    from memos_cli.operation.cues import read_cues
    from memos_cli.operation.fuse import Pool, fuse
    from memos_cli.operation.profile import DIALOGUE
    from memos_cli.operation.times import read_when

    table = Memories.open(cube / "current" / "plaintext").table
    held = holding.Holding(table)
    words = DIALOGUE.words if dense else {**DIALOGUE.words, **DIALOGUE.alone}
    text = {row["_rowid"]: row for row in holding.search.scan(table, [*words, "ref"]).to_pylist()}
    ordered = [text[rowid] for rowid in held.rows.rowid.tolist()]
    lists = {name: Bm25([row[name] for row in ordered]) for name in words}
    now = datetime.now(UTC)
    people = held.rows.stats(held.rows.live).participants()

    def rank(question: str) -> list[str]:
        cues = read_cues(question, participants=people, when=read_when(question, now=now.date()))
        vector = embedder.embed([cues.meaning])[0] if dense else None
        meaning = DIALOGUE.meaning if dense else {}
        asked = signals.Question(cues, DIALOGUE, words, meaning, vector, {}, False)
        values = {name: bm25(cues.words) for name, bm25 in lists.items()}
        values |= signals._held_cosines(held, asked) | signals._priors(held.rows, asked)
        everything = {name: np.ones(len(ordered), bool) for name in words}
        fused = fuse([Pool(values, everything)], scaled=asked.scaled, priors=asked.priors, depth=len(ordered))
        return [ordered[int(place)]["ref"] for place in fused.place[: max(DEPTHS)]]

    return rank


# ---- measures


def measures(asked: Asked, refs: Sequence[str]) -> dict[str, float]:
    """Recall and all-evidence at each depth, and the reciprocal rank of the first evidence."""
    told: dict[str, float] = {"category": asked.category}
    for depth in DEPTHS:
        found = len(asked.evidence & set(refs[:depth]))
        told[f"r@{depth}"] = found / len(asked.evidence)
        told[f"all@{depth}"] = float(found == len(asked.evidence))
    told["mrr"] = next((1 / rank for rank, ref in enumerate(refs, 1) if ref in asked.evidence), 0.0)
    return told


def interval(values: Sequence[float], *, rounds: int = 1000) -> tuple[float, float]:
    """The 95% bootstrap interval of the mean."""
    drawn = np.random.default_rng(0).choice(np.asarray(values), (rounds, len(values))).mean(1)
    low, high = np.percentile(drawn, [2.5, 97.5])
    return round(float(low), 3), round(float(high), 3)


def summary(told: Sequence[dict[str, float]]) -> dict[str, Any]:
    """Means over categories 1 to 4, the interval of recall@10, and recall@10 by category."""
    headline = [each for each in told if each["category"] != 5]
    means = {
        name: round(float(np.mean([each[name] for each in headline])), 3) for name in headline[0] if name != "category"
    }
    low, high = interval([each["r@10"] for each in headline])
    by_category = {}
    for category in range(1, 6):
        values = [each["r@10"] for each in told if each["category"] == category]
        by_category[f"r@10 c{category}"] = round(float(np.mean(values)), 3) if values else None
    return {**means, "r@10 low": low, "r@10 high": high, **by_category}


def run_locomo(folder: Path, *, rerank: bool, only: str | None) -> dict[str, dict[str, Any]]:
    """Every method over every conversation."""
    from memos_cli.runtime.embed import open_embedder

    home = folder / "home"
    embedder = open_embedder("minilm", home=home)
    told: dict[str, list[dict[str, float]]] = defaultdict(list)
    for talk in talks():
        if only and talk.name != only:
            continue
        hybrid, words = (cube_of(talk, folder, embedder=name) for name in ("minilm", "none"))
        rankings = {
            "memos, words only": through_memos(words, home, talk),
            "memos": through_memos(hybrid, home, talk),
        }
        if rerank:
            rankings["memos, rerank"] = through_memos(hybrid, home, talk, rerank=True)
        rankers = baselines(talk, embedder, folder)
        rankers["in memory, words only"] = exact(talk, words, home, embedder, dense=False)
        rankers["in memory"] = exact(talk, hybrid, home, embedder, dense=True)
        for name, rank in rankers.items():
            rankings[name] = [rank(asked.text) for asked in talk.asked]
        for name, lists in rankings.items():
            told[name] += [measures(asked, refs) for asked, refs in zip(talk.asked, lists, strict=True)]
        timing.say(f"{talk.name}: {len(talk.turns)} turns, {len(talk.asked)} questions")
    order = [
        "grep",
        "MiniLM",
        "LanceDB hybrid",
        "BM25",
        "in memory, words only",
        "memos, words only",
        "in memory",
        "memos",
    ]
    return {name: summary(told[name]) for name in [*order, "memos, rerank"] if name in told}


def run_longmemeval(folder: Path, *, limit: int) -> dict[str, Any]:
    """Sessions found: any evidence session among the first five, all among the first ten."""
    path = data_folder() / "longmemeval-s-dev.jsonl.gz"
    if not path.is_file():
        return {"skipped": f"{path.name} is not there"}
    any5 = all10 = count = 0
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        for line in lines:
            if count == limit:
                break
            asked = json.loads(line)
            cube = _haystack(asked, folder)
            (found,) = api.query_many([cube], [asked["question"]], k=50, home=folder / "home")
            sessions = list(dict.fromkeys(hit.session for hit in found.hits))
            wanted = set(asked["answer_session_ids"])
            any5 += bool(wanted & set(sessions[:5]))
            all10 += wanted <= set(sessions[:10])
            count += 1
            timing.say(f"{asked['question_id']}: {found.profile}, any@5 {any5}/{count}, all@10 {all10}/{count}")
    return {"questions": count, "any@5": any5, "all@10": all10}


def _haystack(asked: dict[str, Any], folder: Path) -> Path:
    """The cube of one question's sessions."""
    cube = folder / f"longmemeval-{asked['question_id']}.cube"
    if not cube.exists():
        source = folder / f"longmemeval-{asked['question_id']}.jsonl"
        with source.open("w", encoding="utf-8") as file:
            for name, date, session in zip(
                asked["haystack_session_ids"], asked["haystack_dates"], asked["haystack_sessions"], strict=True
            ):
                time = f"{date[:10].replace('/', '-')}T{date[-5:]}:00Z"
                for said in session:
                    file.write(json.dumps({"session": name, "time": time, **_plain(said)}) + "\n")
        api.ingest(cube, [source], embedder="minilm", home=folder / "home")
    return cube


def _plain(said: dict[str, Any]) -> dict[str, str]:
    return {"role": said["role"], "content": said["content"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--no-rerank", action="store_true", help="leave late interaction out")
    parser.add_argument("--only", help="one conversation, such as conv-26")
    parser.add_argument("--longmemeval", type=int, default=0, metavar="N", help="N questions of LongMemEval-S too")
    parser.add_argument("--folder", type=Path, default=ROOT / ".bench" / "recall", help="where cubes are kept")
    given = parser.parse_args()
    if not locomo():
        timing.say(f"skipped: no locomo-dev.json in {data_folder()}; MEMOS_BENCH_DATA names its folder")
        timing.finish("recall", {"skipped": True})
        return
    given.folder.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("LANCE_LOG", "error")  # the baseline's query warns on every call
    results = run_locomo(given.folder, rerank=not given.no_rerank, only=given.only)
    timing.table([{"method": name, **values} for name, values in results.items()])
    bars = [
        Bar(f"{name}, recall@10 floor", results[name]["r@10"], bar, least=True)
        for name, bar in FLOORS.items()
        if name in results
    ]
    bars += [
        Bar(f"{name}, recall@10 target", results[name]["r@10"], bar, least=True)
        for name, bar in TARGETS.items()
        if name in results
    ]
    told: dict[str, Any] = {"locomo": results}
    if given.longmemeval:
        told["longmemeval"] = run_longmemeval(given.folder, limit=given.longmemeval)
        if not told["longmemeval"].get("skipped"):
            missed = told["longmemeval"]["questions"]
            bars.append(Bar("LongMemEval-S, misses of any@5", missed - told["longmemeval"]["any@5"], 1))
            bars.append(Bar("LongMemEval-S, misses of all@10", missed - told["longmemeval"]["all@10"], 2))
    timing.finish("recall", told, bars=bars)


if __name__ == "__main__":
    main()
