"""One memory tool in this process: add the turns, ask the questions, print the figures. Started by peers.py."""

from __future__ import annotations

import json
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Ask = Callable[[str, str], list[str]]
WARM = 3


@dataclass(frozen=True, slots=True)
class Said:
    """A turn, and the line of JSONL that memos reads it from."""

    conversation: str
    ref: str
    speaker: str
    text: str
    line: str

    @property
    def key(self) -> str:
        return f"{self.conversation}/{self.ref}"

    @property
    def spoken(self) -> str:
        return f"{self.speaker}: {self.text}"


def keys(conversation: str, refs: Iterable[str]) -> list[str]:
    return [f"{conversation}/{ref}" for ref in refs]


def memos(said: list[Said], folder: Path) -> Ask:
    """A cube per conversation, through the Memory API."""
    from memos_cli.interface import api

    by_talk: dict[str, list[str]] = defaultdict(list)
    for turn in said:
        by_talk[turn.conversation].append(turn.line)
    for name, lines in by_talk.items():
        (folder / f"{name}.jsonl").write_text("".join(lines), encoding="utf-8")
        api.ingest(folder / f"{name}.cube", [folder / f"{name}.jsonl"], embedder="minilm")
    prompts: dict[str, list[str]] = {name: [] for name in by_talk}
    # One open bench per cube, as one `memos query` that reads its prompts from a pipe.
    streams = {name: api.query_many([folder / f"{name}.cube"], _drain(prompts[name]), k=10) for name in by_talk}

    def ask(conversation: str, question: str) -> list[str]:
        prompts[conversation].append(question)
        return keys(conversation, (hit.ref for hit in next(streams[conversation]).hits))

    return ask


def _drain(waiting: list[str]) -> Iterable[str]:
    while waiting:
        yield waiting.pop()


def _minilm(folder: Path) -> Any:
    from memos_cli.runtime.embed import open_embedder

    return open_embedder("minilm", home=folder)


def lancedb(said: list[Said], folder: Path) -> Ask:
    """One table, LanceDB's hybrid query with its RRF reranker."""
    import lancedb as lance
    from lancedb.index import FTS
    from lancedb.rerankers import RRFReranker

    embedder = _minilm(folder)
    vectors = embedder.embed([turn.spoken for turn in said])
    rows = [
        {"key": turn.key, "conversation": turn.conversation, "text": turn.spoken, "vector": vector}
        for turn, vector in zip(said, vectors, strict=True)
    ]
    table = lance.connect(str(folder / "lancedb")).create_table("turns", rows)
    table.create_index("text", config=FTS())
    reranker = RRFReranker()

    def ask(conversation: str, question: str) -> list[str]:
        query = table.search(query_type="hybrid", vector_column_name="vector", fts_columns="text")
        query = query.vector(embedder.embed([question])[0]).text(question).distance_type("cosine").rerank(reranker)
        query = query.where(f"conversation = '{conversation}'", prefilter=True).limit(10)
        return list(query.select(["key"]).to_arrow()["key"].to_pylist())

    return ask


def chroma(said: list[Said], folder: Path) -> Ask:
    """One persistent collection, cosine."""
    import chromadb

    embedder = _minilm(folder)
    client = chromadb.PersistentClient(str(folder / "chroma"))
    collection = client.create_collection("turns", metadata={"hnsw:space": "cosine"}, embedding_function=None)
    for at in range(0, len(said), 1000):
        part = said[at : at + 1000]
        collection.add(
            ids=[turn.key for turn in part],
            documents=[turn.spoken for turn in part],
            embeddings=embedder.embed([turn.spoken for turn in part]).tolist(),
            metadatas=[{"conversation": turn.conversation} for turn in part],
        )

    def ask(conversation: str, question: str) -> list[str]:
        vector = embedder.embed([question]).tolist()
        return list(collection.query(vector, n_results=10, where={"conversation": conversation})["ids"][0])

    return ask


def txtai(said: list[Said], folder: Path) -> Ask:
    """Its hybrid index of sparse and dense vectors."""
    from txtai import Embeddings

    from memos_cli.runtime.embed import find_folder

    index = Embeddings(path=str(find_folder()), content=True, hybrid=True, gpu=False)
    index.index([{"id": turn.key, "text": turn.spoken, "conversation": turn.conversation} for turn in said])
    index.save(str(folder / "txtai"))
    statement = "select id, score from txtai where similar(:q, 200) and conversation = :c limit 10"

    def ask(conversation: str, question: str) -> list[str]:
        return [row["id"] for row in index.search(statement, parameters={"q": question, "c": conversation})]

    return ask


def mem0(said: list[Said], folder: Path) -> Ask:
    """Its memory with faiss and no language model: what is said is stored as it is."""
    from mem0 import Memory

    from memos_cli.runtime.embed import find_folder

    memory = Memory.from_config(
        {
            "vector_store": {
                "provider": "faiss",
                "config": {"collection_name": "turns", "path": str(folder / "mem0"), "embedding_model_dims": 384},
            },
            "embedder": {"provider": "huggingface", "config": {"model": str(find_folder())}},
            # Asked for, never called: infer=False.
            "llm": {"provider": "openai", "config": {"api_key": "none"}},
            "history_db_path": str(folder / "mem0" / "history.db"),
        }
    )
    for turn in said:
        memory.add(turn.spoken, user_id=turn.conversation, metadata={"key": turn.key}, infer=False)

    def ask(conversation: str, question: str) -> list[str]:
        found = memory.search(question, filters={"user_id": conversation}, top_k=10, threshold=0.0)
        return [hit["metadata"]["key"] for hit in found["results"]]

    return ask


TOOLS = {"memos": memos, "lancedb": lancedb, "chroma": chroma, "txtai": txtai, "mem0": mem0}


def main() -> None:
    name, data, place = sys.argv[1:]
    folder = Path(place)
    given = json.loads(Path(data).read_text(encoding="utf-8"))
    said = [Said(*turn) for turn in given["turns"]]
    begin = time.perf_counter()
    ask = TOOLS[name](said, folder)
    add_s = time.perf_counter() - begin
    asked = given["asked"] or [[said[0].conversation, "what did they say?", []]] * 20
    for conversation, question, _ in asked[:WARM]:
        ask(conversation, question)
    lasted, shares = [], []
    for conversation, question, evidence in asked:
        begin = time.perf_counter()
        found = ask(conversation, question)
        lasted.append(1000 * (time.perf_counter() - begin))
        wanted = set(keys(conversation, evidence))
        shares.append(len(wanted & set(found)) / len(wanted) if wanted else 0.0)
    disk = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and path.suffix != ".onnx")
    told = {
        "turns": len(said), "add_s": round(add_s, 3), "query_ms": [round(each, 2) for each in lasted],
        "recall": round(sum(shares) / len(shares), 3), "disk_mb": round(disk / 1e6, 1),
    }  # fmt: skip
    sys.stdout.write(json.dumps(told) + "\n")


if __name__ == "__main__":
    main()
