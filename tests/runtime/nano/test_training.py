"""The tokenizer, the network and the loop: exact, equal to the stock model, and able to go on after a stop."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from random import Random

import numpy
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from memos_cli.runtime.nano.train import evaluation, loop
from memos_cli.runtime.nano.train.batches import Encoder, collate
from memos_cli.runtime.nano.train.export import export
from memos_cli.runtime.nano.train.frames import relations
from memos_cli.runtime.nano.train.loop import CHECKPOINT_FILE, load_network, make_tokenizer, train
from memos_cli.runtime.nano.train.network import Network, Shape, to_llama
from memos_cli.runtime.nano.train.schedule import RUNS
from memos_cli.runtime.nano.train.world import Example, Fact, Question, Stated, World

SMOKE = RUNS["smoke"]


@pytest.fixture(autouse=True)
def _few_questions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluation, "QUICK", {"1": 2, "unknown": 2})


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    """The tokenizer of the smallest run."""
    return make_tokenizer(SMOKE)


@pytest.fixture(scope="module")
def texts(tokenizer: Tokenizer) -> Tokenizer:
    return tokenizer


@given(text=st.text())
@settings(max_examples=200, deadline=None)
def test_any_text_comes_back_from_its_tokens(texts: Tokenizer, text: str) -> None:
    for special in ("<|pad|>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>"):
        text = text.replace(special, "")
    ids = texts.encode(text, add_special_tokens=False).ids
    assert texts.decode(ids, skip_special_tokens=False) == text


def test_a_word_has_one_spelling_everywhere(tokenizer: Tokenizer) -> None:
    tokens = [tokenizer.encode(text, add_special_tokens=False).tokens for text in ("Where", "\nWhere", "a Where")]
    assert tokens[0] == tokens[1][-len(tokens[0]) :] == tokens[2][-len(tokens[0]) :]


def test_a_question_on_a_branch_scores_as_if_asked_alone(tokenizer: Tokenizer) -> None:
    torch.manual_seed(0)
    network, encoder = Network(Shape(vocabulary=SMOKE.shape.vocabulary, layers=4)), Encoder(tokenizer)
    questions = (
        Question("Where does Ana live?", "Lindau"),
        Question("Who is Ben?", "unknown"),
        Question("Why?", "rain"),
    )
    memory = "Ana lives in Lindau.\nBen works in Corvath."
    together = encoder.encode(Example(memory, questions))
    last = encoder.encode(Example(memory, questions[-1:]))
    scores = []
    for line in (together, last):
        batch = collate([line], numpy.random.default_rng(0), vocabulary=network.shape.vocabulary)
        hidden, _ = network(batch.ids, batch.positions, batch.mask)
        scores.append(network.logits(hidden)[0, -4:])
    assert torch.allclose(scores[0], scores[1], atol=1e-4)


def test_guides_point_at_the_value_or_at_the_end_of_a_statement_that_begins_with_it(tokenizer: Tokenizer) -> None:
    relation = relations()[0]
    first, second = Fact("Ana", relation, "Lindau"), Fact("Ben", relation, "Corvath")
    memory = "Ana lives in Lindau. Corvath is where Ben lives."
    stated = (Stated(first, (0, 3), (13, 19), (0, 20)), Stated(second, (38, 41), (21, 28), (21, 48)))
    asked = tuple(Question(f"Where is {f.subject}?", f.value, f, (9, 12)) for f in (first, second))
    line = Encoder(tokenizer).encode(Example(memory, asked, stated), guided=True)
    coded = tokenizer.encode(memory, add_special_tokens=False)
    lindau, corvath, end = (1 + coded.char_to_token(at) for at in (13, 21, 47))
    targets = {(name, at): wanted for name, at, wanted in line.guides}
    assert {at for name, at in targets if name == "subject"} >= {lindau, end}
    assert targets["value", end] == [corvath]
    finds = sorted(wanted[0] for (name, _), wanted in targets.items() if name == "source too")
    assert finds == [lindau, end]
    assert [wanted for (name, _), wanted in targets.items() if name == "source"] == [[lindau]]


def test_the_stock_llama_computes_the_same(tokenizer: Tokenizer) -> None:
    torch.manual_seed(0)
    network = Network(Shape(vocabulary=SMOKE.shape.vocabulary))
    line = Encoder(tokenizer).encode(World(Random(1)).example(4, unknown=0.1))
    ids = torch.tensor([line.ids])
    positions = torch.arange(ids.shape[1]).unsqueeze(0)
    batch = collate([line], numpy.random.default_rng(0), vocabulary=network.shape.vocabulary)
    causal = torch.zeros_like(batch.mask).masked_fill_(torch.ones(ids.shape[1], ids.shape[1]).triu(1).bool(), -1e9)
    hidden, _ = network(ids, positions, causal)
    with torch.no_grad():
        stock = to_llama(network)(ids).logits
    assert torch.allclose(network.logits(hidden), stock, atol=2e-4)


def test_the_wired_start_expects_what_it_has_seen() -> None:
    tokens = torch.randint(5, 4096, (4, 48), generator=torch.Generator().manual_seed(0))
    ids = torch.cat([tokens, tokens], 1)
    positions = torch.arange(96).expand(4, -1)
    mask = torch.zeros(4, 1, 96, 96).masked_fill_(torch.ones(96, 96).triu(1).bool(), -1e9)
    losses = []
    for wired in (True, False):
        torch.manual_seed(0)
        network = Network(Shape(), wired=wired)
        with torch.no_grad():
            scores = network.logits(network(ids, positions, mask)[0])[:, 48:-1]
        losses.append(float(torch.nn.functional.cross_entropy(scores.flatten(0, 1), ids[:, 49:].flatten())))
    assert losses[0] < losses[1] - 0.3


@pytest.mark.long
def test_a_run_that_was_stopped_goes_on_to_the_same_weights(tmp_path: Path) -> None:
    run = replace(SMOKE, falls=(8_192,))
    whole = train(run, tmp_path / "whole", device="cpu", workers=0, say=lambda _: None)

    class Stopped(Exception):
        pass

    lines = 0

    def stop(line: str) -> None:
        nonlocal lines
        lines += line.startswith("eval")
        if lines == 2:
            raise Stopped

    with pytest.raises(Stopped):
        train(run, tmp_path / "parts", device="cpu", workers=0, say=stop, every_seconds=0.0)
    parts = train(run, tmp_path / "parts", device="cpu", workers=0, say=lambda _: None)
    for name, weight in whole.state_dict().items():
        assert torch.allclose(weight, parts.state_dict()[name], atol=1e-6), name


@pytest.mark.long
def test_an_export_is_a_plain_folder(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    train(replace(SMOKE, falls=(2048,)), tmp_path, device="cpu", workers=0, say=lambda _: None)
    export(tmp_path, tmp_path / "model")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "model", trust_remote_code=False, use_safetensors=True)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "model", trust_remote_code=False)
    assert type(model).__name__ == "LlamaForCausalLM"
    assert model.config.memos["unknown"] == "unknown"
    text = tokenizer.apply_chat_template(
        [{"role": "system", "content": "Ana lives."}, {"role": "user", "content": "Who?"}],
        tokenize=False,
        add_generation_prompt=True,
    )
    assert text == "<|system|>Ana lives.<|end|><|user|>Who?<|end|><|assistant|>"
    own = Encoder(Tokenizer.from_file(str(tmp_path / loop.TOKENIZER_FILE))).encode(
        Example("Ana lives.", (Question("Who?", "x"),))
    )
    assert tokenizer(text, add_special_tokens=False).input_ids == own.ids[: len(own.ids) - sum(own.answer)]


@pytest.mark.long
def test_a_checkpoint_of_another_shape_is_refused(tmp_path: Path) -> None:
    train(replace(SMOKE, falls=(2048,)), tmp_path, device="cpu", workers=0, say=lambda _: None)
    assert load_network(tmp_path).shape == SMOKE.shape
    other = replace(SMOKE, shape=replace(SMOKE.shape, inner=128))
    with pytest.raises(ValueError, match=CHECKPOINT_FILE):
        train(other, tmp_path, device="cpu", workers=0, say=lambda _: None)
