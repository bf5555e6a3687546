"""Looking into Lance files: compressed texts and the words of text indexes, against what was written."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from memos_cli.cube import lancefile, search
from memos_cli.cube.plaintext import Memories, table_of

LETTERS = "abcdefghijklmnopqrstuvwxyz"


def written(folder: Path, *, count: int, words: int, seed: int = 1) -> list[str]:
    """A table of random words with one of its own in each row, indexed; the texts."""
    rng = random.Random(seed)
    pool = ["".join(rng.choice(LETTERS) for _ in range(rng.randint(3, 9))) for _ in range(1500)]
    texts = [" ".join(rng.choice(pool) for _ in range(words)) + f" Öwn{number:05d}q" for number in range(count)]
    memories = Memories.create(folder, embedder=None)
    rows = [
        {"id": f"{i:020x}", "text": text, "near": text, "wide": text, "kind": "paragraph", "source": "a.md",
         "content_key": f"{i:032x}", "position": i, "words": words}
        for i, text in enumerate(texts)
    ]  # fmt: skip
    memories.append(table_of(rows, embedder=None))
    search.ensure_indexes(memories.table)
    return texts


def files(folder: Path, part: str) -> list[bytes]:
    return [path.read_bytes() for path in folder.rglob("*.lance") if path.is_file() and part in str(path)]


@pytest.mark.many(2)
@pytest.mark.parametrize(("count", "words"), [(20, 12), (1500, 10), (1200, 60), (40, 3000)])
def test_every_text_is_seen_plain_or_compressed(count: int, words: int, tmp_path: Path) -> None:
    texts = written(tmp_path, count=count, words=words)
    (data,) = files(tmp_path, "/data/")
    seen = data + b"\0" + b"\0".join(lancefile.texts(data))
    missed = [text for text in texts if text.encode() not in seen]
    assert not missed
    if count > 1000:
        assert sum(text.encode() in data for text in texts) < count  # or the test would say nothing


def test_every_word_of_an_index_is_listed(tmp_path: Path) -> None:
    texts = written(tmp_path, count=300, words=20)
    expected = {word.lower() for text in texts for word in text.split() if word.startswith("Öwn")}
    listed = files(tmp_path, "tokens")
    assert len(listed) == 3
    for data in listed:
        words = [word.decode() for word in lancefile.vocabulary(data)]
        assert len(words) == len(set(words)) > 1000
        assert {word.replace("ö", "o") for word in expected} <= {word.replace("ö", "o") for word in words}


def test_what_is_no_lance_file_has_nothing_hidden() -> None:
    for data in (b"", b"LANC", b"x" * 100):
        if data[-4:] != lancefile.MAGIC:
            assert list(lancefile.texts(data)) == list(lancefile.vocabulary(data)) == []
    with pytest.raises(ValueError, match="Lance"):
        list(lancefile.texts(b"\0" * 20 + b"LANC"))


def test_files_with_bytes_changed_are_refused_or_read_but_never_hang(tmp_path: Path) -> None:
    written(tmp_path, count=60, words=12)
    rng = random.Random(3)
    for data in files(tmp_path, "tokens")[:1] + files(tmp_path, "/data/"):
        for _ in range(60):
            broken = bytearray(data)
            for _ in range(rng.randint(1, 6)):
                broken[rng.randrange(len(broken))] = rng.randrange(256)
            try:
                list(lancefile.texts(bytes(broken)))
                list(lancefile.vocabulary(bytes(broken)))
            except ValueError:
                pass
