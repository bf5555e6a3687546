"""What a loaded model writes after a prompt, piece by piece, and how likely it finds a given answer.

Token ids in, text and numbers out. Always the likeliest token, unless a temperature is asked for. Knows nothing of
cubes, or of what the text is about.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING, Any

from memos_cli.errors import Usage
from memos_cli.runtime.model import Loaded

if TYPE_CHECKING:
    import torch

    from memos_cli.runtime.kv import Pass

OnText = Callable[[str], None]
# A role and what it said.
Turn = tuple[str, str]
# What a decoder shows for the first bytes of a character whose rest is in the next token.
_UNFINISHED = "\ufffd"


@dataclass(frozen=True, slots=True)
class Written:
    """What a model wrote. `cut` says that the limit stopped it; `first_seconds` is the time to the first token."""

    text: str
    tokens: int
    cut: bool
    first_seconds: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Scored:
    """How likely a model finds an answer: the natural logarithm of the probability of each token, and their sum."""

    ids: tuple[int, ...]
    values: tuple[float, ...]

    @property
    def total(self) -> float:
        return sum(self.values)


def count_tokens(model: Loaded, text: str) -> int:
    """How many tokens a text has, without special ones."""
    return len(tokenize(model, text))


def chat_ids(model: Loaded, user: str, *, system: str | None = None, turns: Sequence[Turn] = ()) -> list[int]:
    """Token ids of a system's and a user's message, up to where the answer begins; the text is that of `chat_text`."""
    text, special = chat_text(model, user, system=system, turns=turns)
    return tokenize(model, text, special=special)


def chat_text(model: Loaded, user: str, *, system: str | None = None, turns: Sequence[Turn] = ()) -> tuple[str, bool]:
    """A system's and a user's message as one text, and whether special tokens are still to be added to it.

    `turns` were said before, of the user first; of several in a row by the same role one is made, as templates want.
    A template that knows no system's message, or leaves it out, gets it before the user's. A model without a template
    gets the plain text. What either says in the model's own control tokens is broken up, so that a memory cannot end
    its turn and speak as somebody else.
    """
    said = in_a_row([(role, disarmed(model, text)) for role, text in [*turns, ("user", user)]])
    system = None if system is None else disarmed(model, system)
    if not model.tokenizer.chat_template:
        return _joined(system, _plainly(said)), True
    text = _templated(model, said, system) if system is not None else None
    if text is None or (system and system.strip() not in text):
        (role, first), *others = said
        text = _templated(model, [(role, _joined(system, first)), *others], None)
    assert text is not None
    return text, False


def in_a_row(turns: Sequence[Turn]) -> list[Turn]:
    """The turns with those of one role that follow each other made one, for many templates want them in turn."""
    said: list[Turn] = []
    for role, text in turns:
        if said and said[-1][0] == role:
            said[-1] = (role, f"{said[-1][1]}\n\n{text}")
        else:
            said.append((role, text))
    return said


def _plainly(said: Sequence[Turn]) -> str:
    """Turns as text: the last one bare, those before it after their role."""
    before = [f"{role}: {text}" for role, text in said[:-1]]
    return "\n\n".join([*before, said[-1][1]])


def disarmed(model: Loaded, text: str) -> str:
    """A text in which no control token of the model stands."""
    for token in model.tokenizer.all_special_tokens:
        if len(token) > 1:
            text = text.replace(token, f"{token[0]} {token[1:]}")
    return text


def _joined(system: str | None, user: str) -> str:
    return f"{system}\n\n{user}" if system else user


def _templated(model: Loaded, said: Sequence[Turn], system: str | None) -> str | None:
    """The messages as the model's template writes them; None when it refuses a system's message."""
    from jinja2 import TemplateError

    messages = [{"role": role, "content": text} for role, text in said]
    if system is not None:
        messages.insert(0, {"role": "system", "content": system})
    try:
        # Models that think aloud are asked not to; the others' templates do not look at it.
        return str(
            model.tokenizer.apply_chat_template(
                messages, tokenize=False, add_generation_prompt=True, enable_thinking=False
            )
        )
    except TemplateError as error:
        if system is not None:
            return None
        raise Usage(f"the chat template of {model.name} does not take a question: {error}"[:500]) from error


def tokenize(model: Loaded, text: str, *, special: bool = False) -> list[int]:
    """The token ids of a text."""
    # `verbose` off: a long text is measured against the window by us, not warned about on stderr
    return list(model.tokenizer(text, add_special_tokens=special, verbose=False)["input_ids"])


def check_window(model: Loaded, prompt_tokens: int, *, limit_tokens: int) -> None:
    """Raises Usage when a prompt and its answer are longer than the model's window."""
    window = model.window
    if window is not None and prompt_tokens + limit_tokens > window:
        needed = f"{prompt_tokens} tokens of prompt and {limit_tokens} of answer"
        raise Usage(f"{model.name} takes {window} tokens; this needs {needed}", hint="another model, or less text")


def generate(
    model: Loaded,
    ids: Sequence[int],
    *,
    limit_tokens: int,
    on_text: OnText | None = None,
    temperature: float = 0.0,
    seed: int = 0,
) -> Written:
    """What the model writes after the tokens `ids`; `on_text` gets each piece of it as it comes.

    Always the likeliest token, or with a `temperature` drawn with `seed`. Raises Usage past the model's window.
    """
    import torch

    check_window(model, len(ids), limit_tokens=limit_tokens)
    prompt = torch.tensor([list(ids)], device=model.network.device)
    stream = _Stream(model.tokenizer, on_text)
    with torch.inference_mode(), torch.random.fork_rng(enabled=temperature > 0):
        if temperature > 0:
            torch.manual_seed(seed)
        out = model.network.generate(
            prompt, attention_mask=torch.ones_like(prompt), streamer=stream,
            generation_config=_settings(model, limit_tokens, temperature),
        )  # fmt: skip
    return _summed(model, stream, out[0, len(ids) :].tolist(), limit_tokens=limit_tokens)


def go_on(model: Loaded, begun: Pass, *, limit_tokens: int, on_text: OnText | None = None) -> Written:
    """What the model writes after a pass over a prompt, always the likeliest token; the pass's cache grows.

    The first token is in the pass already, so `first_seconds` is only the time to choose it.
    """
    import torch

    from memos_cli.runtime.kv import forward

    stream = _Stream(model.tokenizer, on_text)
    stream.put(torch.empty(0))
    written: list[int] = []
    while len(written) < limit_tokens and not (written and written[-1] in model.ends):
        if written:
            begun = forward(model.network, written[-1:], cache=begun.cache, position=begun.position, logits=1)
        written.append(int(begun.logits[-1].argmax()))
        stream.put(torch.tensor(written[-1:]))
    stream.end()
    return _summed(model, stream, written, limit_tokens=limit_tokens)


def _summed(model: Loaded, stream: _Stream, written: Sequence[int], *, limit_tokens: int) -> Written:
    ended = bool(written) and written[-1] in model.ends
    text = model.tokenizer.decode(written, skip_special_tokens=True)
    stream.finish(text)
    return Written(
        text, len(written) - ended, len(written) >= limit_tokens and not ended, stream.first_seconds, stream.seconds
    )


def _settings(model: Loaded, limit_tokens: int, temperature: float) -> Any:
    """Settings of our own: those in a model's folder may sample, and then no run is like another."""
    from transformers import GenerationConfig

    ends = list(model.ends)
    pad = model.tokenizer.pad_token_id
    drawn = {"do_sample": True, "temperature": temperature, "top_k": 0} if temperature > 0 else {"do_sample": False}
    return GenerationConfig(  # type: ignore[no-untyped-call]
        max_new_tokens=limit_tokens, eos_token_id=ends or None,
        pad_token_id=pad if pad is not None else (ends or [0])[0], **drawn,
    )  # fmt: skip


class _Stream:
    """Hears tokens as they are made and passes on whole characters."""

    def __init__(self, tokenizer: Any, on_text: OnText | None) -> None:
        self._tokenizer, self._on_text = tokenizer, on_text
        self._tokens: list[int] = []
        self._sent = ""
        self._start = perf_counter()
        self._prompt = True
        self.first_seconds = self.seconds = 0.0

    def put(self, value: torch.Tensor) -> None:
        if self._prompt:
            self._prompt = False
            return
        self.first_seconds = self.first_seconds or perf_counter() - self._start
        self._tokens += value.reshape(-1).tolist()
        if self._on_text:
            text = self._tokenizer.decode(self._tokens, skip_special_tokens=True)
            if not text.endswith(_UNFINISHED):
                self._send(text)

    def end(self) -> None:
        self.seconds = perf_counter() - self._start

    def finish(self, text: str) -> None:
        """Sends what is left of the whole text."""
        self._send(text)

    def _send(self, text: str) -> None:
        # a tokenizer may join what it gave before in another way; then the rest waits for a text that fits
        if self._on_text and text.startswith(self._sent) and len(text) > len(self._sent):
            self._on_text(text[len(self._sent) :])
            self._sent = text


def logprobs(model: Loaded, ids: Sequence[int], answer: str | Sequence[int]) -> Scored:
    """How likely the model finds `answer` after the tokens `ids`, each token given all before it.

    An answer that is text is tokenised by itself. Raises Usage for an empty one, or past the model's window.
    """
    import torch

    following = tokenize(model, answer) if isinstance(answer, str) else list(answer)
    if not following or not ids:
        raise Usage("expected a prompt and an answer to score, found an empty one")
    check_window(model, len(ids), limit_tokens=len(following))
    whole = torch.tensor([[*ids, *following]], device=model.network.device)
    takes = inspect.signature(model.network.forward).parameters
    kept = {"logits_to_keep": len(following) + 1} if "logits_to_keep" in takes else {}
    with torch.inference_mode():
        logits = model.network(whole, use_cache=False, **kept).logits[0, -len(following) - 1 : -1]
        chances = torch.log_softmax(logits.float(), dim=-1)
        values = chances.gather(1, whole[0, len(ids) :, None])[:, 0]
    return Scored(tuple(following), tuple(values.tolist()))
