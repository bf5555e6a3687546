"""Counting tokens as a given model would, without loading the model. Knows nothing of what the text is for."""

from __future__ import annotations

from collections.abc import Callable

from memos_cli.errors import Damaged, NotFound
from memos_cli.runtime.model import find, folder_of

FILE = "tokenizer.json"


def open_counter(model: str) -> Callable[[str], int]:
    """How many tokens a text has for a model (a folder, a hub id or `nano`), without special tokens.

    Raises as `open_tokenizer`.
    """
    tokenise = open_tokenizer(model)
    return lambda text: len(tokenise(text))


def open_tokenizer(model: str) -> Callable[[str], list[int]]:
    """The token ids of a text for a model (a folder, a hub id or `nano`), without special tokens.

    Reads only its tokenizer.json. Raises NotFound when there is none, Damaged when it does not read.
    """
    from tokenizers import Tokenizer

    path = (folder_of(model) or find(model)) / FILE
    if not path.is_file():
        raise NotFound(f"expected a model folder with {FILE}, found none at {model}", hint="--model FOLDER")
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the Rust side raises the bare class
        raise Damaged(f"{path} does not read as a tokenizer: {error}") from error
    return lambda text: list(tokenizer.encode(text, add_special_tokens=False).ids)
