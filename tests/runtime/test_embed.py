"""The embedder: the same vectors however texts come, close to the model they come from, found without torch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np  # noqa: TID253
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from memos_cli.errors import Damaged, MissingExtra, NotFound
from memos_cli.runtime import embed
from memos_cli.runtime.embed import MiniLM, find_folder, length_groups, open_embedder

TEXTS = [
    "I went to a support group yesterday and it was powerful.",
    "Wow!",
    "What did you take away from it?",
    "",
    "the commit point is the rename of the symbolic link",
    "ein Satz auf Deutsch, mit Umlauten: äöü",
    "東京に行きました",
    "long " * 400,
]


@pytest.fixture(scope="module")
def minilm(cache: Path) -> MiniLM:
    found = open_embedder("minilm", home=cache.parent / "embed-home")
    assert isinstance(found, MiniLM)
    return found


def test_none_is_no_embedder(tmp_path: Path) -> None:
    assert open_embedder("none", home=tmp_path) is None


def test_vectors_have_length_one_and_the_identity_says_what_made_them(minilm: MiniLM) -> None:
    vectors = minilm.embed(TEXTS)
    assert vectors.shape == (len(TEXTS), 384)
    assert vectors.dtype == np.float32
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert minilm.identity["dim"] == 384
    assert set(minilm.identity) == {"name", "digest", "dim", "window", "precision"}


def test_no_texts_give_no_vectors(minilm: MiniLM) -> None:
    assert minilm.embed([]).shape == (0, 384)
    assert minilm.tokens([]) == []


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.sampled_from(TEXTS), min_size=1, max_size=12), st.randoms())
def test_a_vector_does_not_depend_on_what_else_is_in_the_call(minilm: MiniLM, texts: list[str], random: object) -> None:
    alone = {text: minilm.embed([text])[0] for text in set(texts)}
    together = minilm.embed(texts)
    assert all(np.array_equal(alone[text], vector) for text, vector in zip(texts, together, strict=True))


@pytest.mark.long
def test_vectors_are_close_to_those_of_the_model_in_full_precision(minilm: MiniLM, tmp_path: Path) -> None:
    full = open_embedder(str(find_folder()), home=tmp_path)
    assert full is not None
    texts = [text for text in TEXTS if text]
    cosines = (full.embed(texts) * minilm.embed(texts)).sum(1)
    assert cosines.min() > 0.97
    assert cosines.mean() > 0.99
    assert full.identity != minilm.identity
    assert np.allclose(full.embed(texts[:1]), full.embed(texts)[:1], atol=1e-6)
    assert full.count_tokens("hello world") == minilm.count_tokens("hello world") == 2


def test_what_is_past_the_window_is_cut_and_fits_says_so(minilm: MiniLM) -> None:
    assert minilm.fits("word " * 254)
    assert not minilm.fits("word " * 255)
    assert not minilm.fits("x" * 100_000)
    assert np.array_equal(minilm.embed(["word " * 254]), minilm.embed(["word " * 2000]))


def test_tokens_come_without_the_special_ones(minilm: MiniLM) -> None:
    (found,) = minilm.tokens(["hello world"])
    assert found.ids.tolist() == [7592, 2088]
    assert found.vectors.shape == (2, 384)
    assert np.allclose(np.linalg.norm(found.vectors, axis=1), 1, atol=1e-5)


def test_groups_hold_texts_of_one_length_and_few_tokens() -> None:
    lengths = [5, 200, 5, 64, 64, 64, 5]
    groups = list(length_groups(lengths))
    assert sorted(place for group in groups for place in group) == list(range(7))
    assert all(len({lengths[place] for place in group}) == 1 for group in groups)
    assert all(len(group) == 1 or len(group) * lengths[group[0]] <= embed.GROUP_TOKENS for group in groups)


def test_the_first_use_says_so_once_and_prints_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    heard: list[str] = []
    for _ in range(2):
        open_embedder("minilm", home=tmp_path, notice=heard.append)
    assert len(heard) == 1
    assert capfd.readouterr() == ("", "")


@pytest.mark.long
def test_a_torn_cache_file_is_made_anew(minilm: MiniLM, tmp_path: Path) -> None:
    open_embedder("minilm", home=tmp_path)
    (graph,) = (tmp_path / "cache").glob("*.onnx")
    graph.write_bytes(graph.read_bytes()[:1000])
    again = open_embedder("minilm", home=tmp_path)
    assert again is not None
    assert np.array_equal(again.embed(TEXTS[:2]), minilm.embed(TEXTS[:2]))


@pytest.mark.long
def test_two_processes_may_make_it_at_once_and_neither_imports_torch(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path\n"
        "from memos_cli.runtime.embed import open_embedder\n"
        f"e = open_embedder('minilm', home=Path({str(tmp_path)!r}))\n"
        "print(e.embed(['a question'])[0][:4].tolist())\n"
        "sys.exit(bool({'torch', 'transformers', 'pandas', 'sentence_transformers'} & set(sys.modules)))\n"
    )
    both = [
        subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, cwd=Path.cwd())
        for _ in range(2)
    ]
    outs = [process.communicate()[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert outs[0] == outs[1] != ""
    assert [path.suffix for path in (tmp_path / "cache").iterdir() if path.suffix not in (".json", ".onnx")] == []


def test_a_changed_model_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    for name in embed.SHA256:
        (folder / name).write_bytes(b"not the file")
    monkeypatch.setattr(embed, "find_folder", lambda: folder)
    with pytest.raises(Damaged, match="expected sha256"):
        open_embedder("minilm", home=tmp_path)


def test_a_missing_package_names_the_line_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embed, "MODULE", "no_such_package_of_a_model")
    with pytest.raises(MissingExtra) as raised:
        find_folder()
    assert "pip install" in (raised.value.hint or "")


def test_an_unknown_model_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no-such-folder"):
        open_embedder(str(tmp_path / "no-such-folder"), home=tmp_path)
