"""A decoder model on this machine, through transformers: a prompt into its completion, always the likeliest token.

Only safetensors weights and architectures that transformers itself knows are read. Imports torch on the first
completion. Knows nothing of cubes.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from memos_cli.errors import MissingExtra, NotFound, Usage
from memos_cli.runtime.complete import Completion

if TYPE_CHECKING:
    import torch

# What is fetched of a hub id: no code, no pickles.
FILES = ("*.json", "*.safetensors", "*.model", "*.txt", "*.jinja")


@dataclass(slots=True)
class LocalModel:
    """A model in a folder or of a hub id. Raises NotFound at once for a folder that holds none."""

    spec: str
    _loaded: tuple[Any, Any] | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        folder = self._folder()
        if folder and not (folder / "config.json").is_file():
            raise NotFound(f"expected a model in the folder {self.spec}, found no config.json there")

    @property
    def name(self) -> str:
        """The hub id, or the folder's own name: where it lies is of this machine only."""
        folder = self._folder()
        return folder.resolve().name if folder else self.spec

    def complete(self, prompt: str, *, limit_tokens: int) -> Completion:
        """What the model writes after the prompt, always its likeliest token. Raises Usage past its window."""
        import torch

        tokenizer, model = self._load()
        ids = _prompt_ids(tokenizer, prompt).to(model.device)
        window = getattr(model.config, "max_position_embeddings", None)
        if isinstance(window, int) and ids.shape[1] + limit_tokens > window:
            needed = f"{ids.shape[1]} tokens of prompt and {limit_tokens} of answer"
            raise Usage(f"{self.name} takes {window} tokens; this needs {needed}", hint="--extract another-model")
        settings = _greedy(tokenizer, model, limit_tokens)
        with torch.inference_mode():
            out = model.generate(ids, attention_mask=torch.ones_like(ids), generation_config=settings)
        answer = out[0, ids.shape[1] :]
        cut = len(answer) >= limit_tokens and int(answer[-1]) not in _ends(settings.eos_token_id)
        return Completion(tokenizer.decode(answer, skip_special_tokens=True), cut)

    def _folder(self) -> Path | None:
        path = Path(self.spec).expanduser()
        return path if path.is_dir() or self.spec.startswith((".", "~", os.sep)) else None

    def _load(self) -> tuple[Any, Any]:
        if self._loaded is None:
            self._loaded = _load_decoder(str(self._folder() or self.spec))
        return self._loaded


def _load_decoder(spec: str) -> tuple[Any, Any]:
    """Tokenizer and model. What is on this machine is read without a connection; only a hub id that is not connects."""
    try:
        import torch
        from huggingface_hub.utils import logging as hub_logging
        from transformers.utils import logging
    except ImportError as error:
        raise MissingExtra(f"the model {spec} needs torch and transformers", hint="pip install memos") from error
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    hub_logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    try:
        tokenizer, model = _read(spec) if Path(spec).is_dir() else _from_hub(spec)
    except (OSError, ValueError, KeyError) as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        hint = "give a folder that holds it, or with --extract-url the server that knows it"
        raise NotFound(f"expected a decoder model at {spec!r}: {first}"[:500], hint) from error
    return tokenizer, model.to("cuda" if torch.cuda.is_available() else "cpu").eval()


def _from_hub(spec: str) -> tuple[Any, Any]:
    from huggingface_hub import snapshot_download

    try:
        return _read(snapshot_download(spec, allow_patterns=list(FILES), local_files_only=True))
    except (OSError, ValueError, KeyError):
        return _read(snapshot_download(spec, allow_patterns=list(FILES)))


def _read(folder: str) -> tuple[Any, Any]:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    # False, not absent: left open, transformers asks on a terminal whether to run a model's own code.
    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    model = AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=False, use_safetensors=True)
    return tokenizer, model


def _prompt_ids(tokenizer: Any, prompt: str) -> torch.Tensor:
    """Token ids of the prompt [1, tokens], as a user's message where the model knows such."""
    if not tokenizer.chat_template:
        return cast("torch.Tensor", tokenizer(prompt, return_tensors="pt", verbose=False)["input_ids"])
    # Models that think aloud are asked not to; the others' templates do not look at it.
    message = [{"role": "user", "content": prompt}]
    text = tokenizer.apply_chat_template(message, tokenize=False, add_generation_prompt=True, enable_thinking=False)
    ids = tokenizer(text, return_tensors="pt", add_special_tokens=False, verbose=False)["input_ids"]
    return cast("torch.Tensor", ids)


def _greedy(tokenizer: Any, model: Any, limit_tokens: int) -> Any:
    """Settings of our own: those in a model's folder may sample, and then no run is like another."""
    from transformers import GenerationConfig

    end = model.generation_config.eos_token_id
    end = tokenizer.eos_token_id if end is None else end
    pad = tokenizer.pad_token_id
    if pad is None:
        pad = next(iter(_ends(end)), 0)
    return GenerationConfig(  # type: ignore[no-untyped-call]
        max_new_tokens=limit_tokens, do_sample=False, eos_token_id=end, pad_token_id=pad
    )


def _ends(end: int | list[int] | None) -> list[int]:
    return end if isinstance(end, list) else [] if end is None else [end]
