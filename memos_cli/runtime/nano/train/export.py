"""A checkpoint as a plain Hugging Face folder: no custom code, bf16 safetensors, tokenizer, chat template."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from memos_cli.runtime.nano.train.loop import TOKENIZER_FILE, load_network
from memos_cli.runtime.nano.train.network import to_llama
from memos_cli.runtime.nano.train.vocabulary import ASSISTANT, END, PAD, SYSTEM, USER
from memos_cli.runtime.nano.train.world import UNKNOWN

ANSWER_TOKENS = 24
# How a small reader wants to be asked: bare memories, few of them, an answer that is a span of them.
READER = {"reader": "span", "unknown": UNKNOWN, "memories": 4}
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)


def export(run: Path, folder: Path) -> int:
    """Writes the model of the run's last checkpoint to `folder`; gives its size in bytes.

    `AutoModelForCausalLM` and `AutoTokenizer` load the folder as it is.
    """
    from tokenizers import Tokenizer
    from transformers import GenerationConfig, PreTrainedTokenizerFast

    tokenizer = Tokenizer.from_file(str(run / TOKENIZER_FILE))
    end, pad = tokenizer.token_to_id(END), tokenizer.token_to_id(PAD)
    model = to_llama(load_network(run), bos_token_id=None, eos_token_id=end, pad_token_id=pad)
    model.generation_config = GenerationConfig(  # type: ignore[no-untyped-call]
        do_sample=False, max_new_tokens=ANSWER_TOKENS, eos_token_id=end, pad_token_id=pad
    )
    folder.mkdir(parents=True, exist_ok=True)
    model.bfloat16().save_pretrained(folder)
    fast = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer, eos_token=END, pad_token=PAD, additional_special_tokens=[SYSTEM, USER, ASSISTANT],
        model_max_length=model.config.max_position_embeddings, clean_up_tokenization_spaces=False,
    )  # fmt: skip
    fast.chat_template = CHAT_TEMPLATE
    fast.save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps(config | {"memos": READER}, indent=2) + "\n", encoding="utf-8")
    if (run / "log.jsonl").exists():
        shutil.copyfile(run / "log.jsonl", folder / "log.jsonl")
    return sum(path.stat().st_size for path in folder.iterdir() if path.is_file())
