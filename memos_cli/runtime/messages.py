"""Messages into token ids as a server does it: by the model's chat template and nothing else.

What `generate.chat_ids` smooths over (no template, no system's message) is an error here, since a server makes one of
it too. Knows nothing of memories.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from memos_cli.errors import Usage
from memos_cli.runtime import generate

if TYPE_CHECKING:
    from memos_cli.runtime.model import Loaded


def message_ids(model: Loaded, messages: Sequence[tuple[str, str]]) -> list[int]:
    """Token ids of messages, each a role and a text, up to where the answer begins.

    Raises Usage for a model without a chat template, and for roles that the template does not take.
    """
    from jinja2 import TemplateError

    if not model.tokenizer.chat_template:
        raise Usage(
            f"{model.name} has no chat template, so no server can ask it in messages", hint="--model CHAT-MODEL"
        )
    given = [{"role": role, "content": text} for role, text in messages]
    try:
        text = model.tokenizer.apply_chat_template(
            given, tokenize=False, add_generation_prompt=True, enable_thinking=False
        )
    except TemplateError as error:
        raise Usage(f"the chat template of {model.name} does not take these messages: {error}"[:500]) from error
    return generate.tokenize(model, str(text))
