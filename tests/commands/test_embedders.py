"""A sentence model of the user's own: made here, tiny and random, in a folder as any other."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import Memos


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT of one layer with a tokenizer of single words."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("models") / "tiny"
    words = "[PAD] [UNK] [CLS] [SEP] the key is under mat where train leaves at nine".split()  # noqa: SIM905
    tokenizer = Tokenizer(WordLevel({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="[UNK]", pad_token="[PAD]", model_max_length=64
    ).save_pretrained(folder)
    shape = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    BertModel(BertConfig(vocab_size=len(words), max_position_embeddings=64, **shape)).save_pretrained(folder)
    return folder


def test_a_model_of_ones_own_embeds_a_cube(model: Path, work: Path, memos: Memos) -> None:
    (work / "a.md").write_text("- The key is under the mat.\n- The train leaves at nine.\n")
    done = memos("ingest", "a.cube", "a.md", "--embedder", model, "--json")
    assert done.code == 0, done.err
    assert done.json["embedder"].startswith("tiny@")
    found = memos("query", "a.cube", "where is the key", "--embedder", model, "--json").json
    assert found["missing"] == []
    assert found["hits"][0]["text"] == "The key is under the mat."
    assert memos("audit", "a.cube", "--deep").code == 0


def test_a_folder_that_is_not_named_leaves_search_by_words_and_says_so(model: Path, work: Path, memos: Memos) -> None:
    (work / "a.md").write_text("- The key is under the mat.\n")
    memos("ingest", "a.cube", "a.md", "--embedder", model)
    done = memos("query", "a.cube", "key", "--json")
    assert done.code == 0
    assert done.json["hits"]
    assert "has to be named" in done.json["missing"][0]
    (work / "b.md").write_text("- More.\n")
    refused = memos("ingest", "a.cube", "b.md")
    assert refused.code == 3
    assert "--embedder FOLDER" in refused.err
    assert memos("ingest", "a.cube", "b.md", "--embedder", model).code == 0


def test_vectors_of_two_models_never_mix(model: Path, work: Path, memos: Memos) -> None:
    (work / "a.md").write_text("- The key is under the mat.\n")
    memos("ingest", "a.cube", "a.md", "--embedder", model)
    memos("ingest", "b.cube", "a.md")
    both = memos("query", "a.cube", "key", "--with", "b.cube")
    assert both.code == 6
    assert "tiny" in both.err
    assert "all-MiniLM-L6-v2" in both.err
    assert "memos reindex b.cube" in both.err
    done = memos("reindex", "a.cube", "--embedder", "minilm")
    assert done.code == 0, done.err
    assert memos("query", "a.cube", "key", "--with", "b.cube").code == 0
