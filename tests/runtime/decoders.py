"""Small real decoder models: a Llama of random weights, and one whose weights are set so that it recites."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

Save = Callable[..., None]

CHAT_TEMPLATE = "{% for m in messages %}<s>{{ m['content'] }}{% endfor %}{% if add_generation_prompt %}</s>{% endif %}"


def once(save: Save) -> Save:
    """The same, but what was saved before is written again byte for byte: to make it takes longer than many a test."""
    saved: dict[str, dict[str, bytes]] = {}

    @functools.wraps(save)
    def write(folder: Path, *given: Any, **named: Any) -> None:
        key = repr((given, sorted(named.items())))
        if key not in saved:
            with TemporaryDirectory() as place:
                save(Path(place), *given, **named)
                saved[key] = {path.name: path.read_bytes() for path in Path(place).iterdir()}
        folder.mkdir(parents=True, exist_ok=True)
        for name, data in saved[key].items():
            # not into the old file, which a loaded model may still have in its memory
            (folder / name).unlink(missing_ok=True)
            (folder / name).write_bytes(data)

    return write


def save_tokenizer(folder: Path, texts: Sequence[str], *, words: bool = False, chat: bool = False) -> Any:
    """A tokenizer trained on `texts`: byte pairs, or whole words, each with the white space before it."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    special = ["<unk>", "<s>", "</s>"]
    if words:
        raw = Tokenizer(models.WordLevel(unk_token="<unk>"))
        raw.pre_tokenizer = pre_tokenizers.Split(Regex(r"\s?[^\s]+|\s"), "isolated")
        raw.decoder = decoders.Fuse()
        raw.train_from_iterator(texts, trainers.WordLevelTrainer(special_tokens=special))
    else:
        raw = Tokenizer(models.BPE(unk_token="<unk>"))
        raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        raw.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        raw.train_from_iterator(
            texts, trainers.BpeTrainer(vocab_size=400, special_tokens=special, initial_alphabet=alphabet)
        )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=raw, unk_token="<unk>", bos_token="<s>", eos_token="</s>", clean_up_tokenization_spaces=False
    )
    if chat:
        tokenizer.chat_template = CHAT_TEMPLATE
    tokenizer.save_pretrained(folder)
    return tokenizer


def new_llama(vocabulary: int, *, width: int = 32, window: int = 2048) -> Any:
    """A Llama of two layers, not trained."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(7)
    config = LlamaConfig(
        vocab_size=vocabulary, hidden_size=width, intermediate_size=2 * width, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=1, max_position_embeddings=window, bos_token_id=1, eos_token_id=2,
        tie_word_embeddings=False,
    )  # fmt: skip
    return LlamaForCausalLM(config).eval()


def save_random(folder: Path, *, chat: bool = False, window: int = 2048) -> tuple[Any, Any]:
    """Tokenizer and model, saved under `folder`."""
    tokenizer = save_tokenizer(folder, ["Ann keeps bees in Oslo.", "Bob sold the red boat in May."], chat=chat)
    model = new_llama(len(tokenizer), window=window)
    model.save_pretrained(folder)
    return tokenizer, model


@once
def save_reciting(folder: Path, lines: Sequence[str], *, after: str) -> None:
    """A Llama that writes `lines` whenever a prompt ends in the word `after`.

    Its layers add nothing and its head leads from each token to the next one of the lines, so every token of them
    must be another one.
    """
    import torch

    text = "\n" + "\n".join(lines)
    tokenizer = save_tokenizer(folder, [after, text], words=True)
    chain = [tokenizer(after)["input_ids"][-1], *tokenizer(text)["input_ids"], tokenizer.eos_token_id]
    assert len(set(chain)) == len(chain), "a token stands twice"
    size = len(tokenizer) + len(tokenizer) % 2
    model = new_llama(size, width=size if size % 4 == 0 else size + 2)
    with torch.no_grad():
        for layer in model.model.layers:
            layer.self_attn.o_proj.weight.zero_()
            layer.mlp.down_proj.weight.zero_()
        model.model.embed_tokens.weight.zero_()
        model.lm_head.weight.zero_()
        for token in range(size):
            model.model.embed_tokens.weight[token, token] = 1.0
        for token, following in zip(chain, chain[1:], strict=False):
            model.lm_head.weight[following, token] = 1.0
    model.save_pretrained(folder)


READER_TEMPLATE = "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}<|end|>{% endfor %}<|assistant|>"


@once
def save_parrot(folder: Path, answer: str, *, reader: str = "span", memories: int = 4, window: int = 2048) -> None:
    """A Llama that answers every question with `answer`, whose words must differ; asked as a reader of that kind."""
    import torch
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    special = ["<unk>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>"]
    raw = Tokenizer(models.WordLevel(unk_token="<unk>"))
    raw.pre_tokenizer = pre_tokenizers.Split(Regex(r"\s?[^\s]+|\s"), "isolated")
    raw.decoder = decoders.Fuse()
    raw.train_from_iterator([answer], trainers.WordLevelTrainer(special_tokens=special))
    raw.add_special_tokens([AddedToken(word) for word in special])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=raw, unk_token="<unk>", eos_token="<|end|>", clean_up_tokenization_spaces=False
    )
    tokenizer.chat_template = READER_TEMPLATE
    tokenizer.save_pretrained(folder)
    chain = [tokenizer.convert_tokens_to_ids("<|assistant|>"), *tokenizer(answer)["input_ids"], tokenizer.eos_token_id]
    assert len(set(chain)) == len(chain), "a token stands twice"
    size = len(tokenizer)
    model = new_llama(size, width=size + (-size) % 4, window=window)
    with torch.no_grad():
        for layer in model.model.layers:
            layer.self_attn.o_proj.weight.zero_()
            layer.mlp.down_proj.weight.zero_()
        model.model.embed_tokens.weight.copy_(torch.eye(size, model.config.hidden_size))
        model.lm_head.weight.zero_()
        for token, following in zip(chain, chain[1:], strict=False):
            model.lm_head.weight[following, token] = 1.0
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.config.memos = {"reader": reader, "unknown": "unknown", "memories": memories}
    model.save_pretrained(folder)


TAUGHT = [
    "Ann keeps bees in Oslo.", "Bob sold the red boat in May.", "Boiler code: 4711", "Ana moved to Lindau in May.",
    "The bins go out on Tuesday.", "what is the code of the boiler?", "where does Ana live now? not in memory",
]  # fmt: skip


@once
def save_family(
    folder: Path, family: str = "llama", *, reader: str = "span", template: str = READER_TEMPLATE, brief: bool = False,
    **more: Any,
) -> None:  # fmt: skip
    """A tiny model of a family with wide random weights and byte pairs, asked as a reader of that kind.

    A `brief` one ends its answer at every fourth token that there is.
    """
    from tests.runtime.test_layout import new_model

    tokenizer = save_tokenizer(folder, TAUGHT)
    tokenizer.add_special_tokens(
        {"additional_special_tokens": ["<|system|>", "<|user|>", "<|assistant|>", "<|end|>"], "eos_token": "<|end|>"}
    )
    tokenizer.chat_template = template
    tokenizer.save_pretrained(folder)
    model = new_model(family, vocab_size=len(tokenizer), **more)
    ends = list(range(tokenizer.eos_token_id % 4, len(tokenizer), 4))
    model.generation_config.eos_token_id = ends if brief else tokenizer.eos_token_id
    model.config.memos = {"reader": reader, "unknown": "unknown", "memories": 4}
    model.save_pretrained(folder)
