"""Which memories of a prompt come back as they are stored, and which as text; then one pass over what is left to read.

For each memory the file that is nearest to its text, if its gate lets it pass; for several the cheapest way of
composing them that does. Whatever cannot be used is read as text, with the reason. Works on files of versions that
somebody holds open.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

from memos_cli.cube import activation
from memos_cli.errors import CheckFailed, Damaged, MemosError, WrongModel
from memos_cli.infrastructure import loader
from memos_cli.infrastructure.loader import Opened
from memos_cli.operation import gate
from memos_cli.operation.convert import PREFIX, WAYS, content_of
from memos_cli.runtime import kv
from memos_cli.runtime.compose import CONCAT, Composed, Placed, attended, inject, refusal
from memos_cli.runtime.generate import check_window, go_on
from memos_cli.runtime.sparse import SparseMemory

if TYPE_CHECKING:
    from memos_cli.cube.activation import Header
    from memos_cli.runtime.fingerprint import Fingerprint
    from memos_cli.runtime.generate import Written
    from memos_cli.runtime.kv import Pass
    from memos_cli.runtime.model import Loaded
    from memos_cli.runtime.spans import Prompt

PLAINTEXT, ACTIVATION, PARAMETER = "plaintext", "activation", "parameter"
AUTO = "auto"
FORMS = (AUTO, PLAINTEXT, ACTIVATION, PARAMETER)
AS_ASKED = "as it was asked for"


@dataclass(frozen=True, slots=True)
class Given:
    """A memory that a prompt has: its id, what the prompt shows of it, and the folder its files would be in.

    `adapters` are the names of those that may be used, None for all: one that was taught a memory which is not open to
    the one who asks could tell it.
    """

    id: str
    line: str
    folder: Path
    adapters: frozenset[str] | None = None


@dataclass(frozen=True, slots=True)
class Formed:
    """The form that a memory took, "" for one that was not used.

    `way` is how it was composed, or the adapter that knows it; `tokens` are its own; `why` is the reason for text.
    """

    id: str
    form: str
    way: str
    tokens: int
    reused: int
    why: str


@dataclass(frozen=True, slots=True)
class Answer:
    """What was written, the form of each memory, tokens reused and read again, the seconds of each stage, and the
    tokens of the prompt."""

    written: Written
    formed: tuple[Formed, ...]
    reused: int
    recomputed: int
    warnings: tuple[str, ...]
    seconds: dict[str, float]
    prompt_tokens: int


@dataclass(frozen=True, slots=True)
class _Found:
    """A file that may be used: its header, what it holds, and where that stands in the prompt."""

    header: Header
    placed: Placed[Any]
    warnings: tuple[str, ...]
    sparse: bool


# What becomes of a memory: its file, or why it is read as text.
Fate = _Found | str | MemosError


@dataclass(slots=True)
class Activations:
    """A model, and how much it must agree with its memories."""

    model: Loaded
    fingerprint: Fingerprint
    limits: gate.Limits = gate.Limits()
    _kept: dict[Path, Opened] = field(default_factory=dict)

    def write(
        self,
        prompt: Prompt,
        given: Sequence[Given],
        *,
        form: str,
        limit_tokens: int,
        on_text: Callable[[str], None] | None = None,
    ) -> Answer:
        """The answer to a prompt of which the memories `given` are parts, in the order of its spans.

        With `form` activation every memory must come back as it is stored: raises CheckFailed, WrongModel or Damaged
        for the first that does not.
        """
        check_window(self.model, len(prompt.ids), limit_tokens=limit_tokens)
        start = perf_counter()
        found = self._found(prompt, given) if form != PLAINTEXT else [AS_ASKED] * len(given)
        way, used = self._together(prompt, found, limit_tokens=limit_tokens)
        if form == ACTIVATION:
            _insist(given, used)
        placed = [each.placed for each in used if isinstance(each, _Found)]
        loaded = perf_counter() - start
        with attended(self.model.network, placed):
            composed = self._read(prompt, placed, way)
            if placed and not bool(composed.read.logits.isfinite().all()):
                used = [Damaged("it holds numbers that are none", hint="memos audit CUBE --deep")] * len(used)
                if form == ACTIVATION:
                    _insist(given, used)
                composed = self._read(prompt, [], way)
            written = go_on(self.model, composed.read, limit_tokens=limit_tokens, on_text=on_text)
        formed = tuple(_formed(one, each, way) for one, each in zip(given, used, strict=True))
        warnings = tuple(dict.fromkeys(text for each in used if isinstance(each, _Found) for text in each.warnings))
        seconds = {"load": loaded, **_split(composed, len(prompt.ids)), "first_token": written.first_seconds}
        return Answer(
            written, formed, composed.reused, composed.recomputed, warnings, rounded(seconds), len(prompt.ids)
        )

    def rows(self, prompt: Prompt, one: Given, following: Sequence[int]) -> Any | str:
        """The log-probabilities [following, vocabulary] after a prompt whose one memory is loaded instead of read.

        Or why its file cannot be used.
        """
        (found,) = self._found(prompt, [one])
        if not isinstance(found, _Found):
            return found if isinstance(found, str) else found.message
        with attended(self.model.network, [found.placed]):
            whole = [*prompt.ids, *following]
            read = inject(self.model.network, whole, [found.placed], mode=CONCAT, logits=len(following) + 1).read
        return read.logits[:-1].float().log_softmax(-1)

    def _read(self, prompt: Prompt, placed: Sequence[Placed[Any]], way: str) -> Composed:
        if placed:
            return inject(self.model.network, prompt.ids, placed, mode=way, logits=1)
        start = perf_counter()
        cache = kv.new_cache(self.model.network)
        read: Pass = kv.forward(self.model.network, prompt.ids, cache=cache, position=0, logits=1)
        return Composed(read, 0, 0, {"rotate": 0.0, "choose": 0.0, "read": perf_counter() - start})

    def _found(self, prompt: Prompt, given: Sequence[Given]) -> list[Fate]:
        """For each memory the file to use, or why there is none."""
        return [
            self._best(prompt, one, span, first=number == 0)
            for number, (one, span) in enumerate(zip(given, prompt.spans, strict=True))
        ]

    def _best(self, prompt: Prompt, one: Given, span: tuple[int, int] | None, *, first: bool) -> Fate:
        if span is None:
            return "its tokens cannot be told from those around it"
        paths = activation.find(one.folder, memory=one.id)
        if not paths:
            return "it was not converted"
        found = [self._usable(prompt, path, one, span, first=first) for path in paths]
        usable = [each for each in found if isinstance(each, Opened)]
        if not usable:
            reasons = [each for each in found if not isinstance(each, Opened)]
            # of files for several models, that of this one's own says more
            return next((each for each in reasons if not isinstance(each, WrongModel)), reasons[0])
        best = min(usable, key=lambda each: (each.header.fidelity.get("kl", 0.0), len(each.header.layers)))
        at = 0 if best.header.kind == PREFIX else span[0]
        memory = best.memory(self.model.network)
        return _Found(best.header, Placed(memory, at), best.warnings, isinstance(memory, SparseMemory))

    def _usable(
        self, prompt: Prompt, path: Path, one: Given, span: tuple[int, int], *, first: bool
    ) -> Opened | str | MemosError:
        """A file for this memory in this prompt, or why it is none."""
        try:
            opened = self._opened(path)
        except MemosError as error:
            return error
        header = opened.header
        if header.content != content_of(one.line):
            return "its text has changed since it was converted"
        if header.kind == PREFIX and not first:
            return "it begins a prompt, and here another memory does"
        at = 0 if header.kind == PREFIX else span[0]
        if tuple(prompt.ids[at : at + header.tokens]) != opened.ids:
            return "it has other tokens in this prompt"
        return gate.refusal(header.fidelity, self.limits) or opened

    def _opened(self, path: Path) -> Opened:
        """A file of a version, which never changes: it is checked once. Raises as `loader.open_file`."""
        if path not in self._kept:
            self._kept[path] = loader.open_file(path, self.model.network, fingerprint=self.fingerprint)
        return self._kept[path]

    def _together(self, prompt: Prompt, found: Sequence[Fate], *, limit_tokens: int) -> tuple[str, list[Fate]]:
        """The way to compose what was found, and what of it is used; the rest with the reason."""
        tokens = len(prompt.ids) + limit_tokens
        usable = [each for each in found if isinstance(each, _Found)]
        alone = len(found) == 1 or (len(usable) == 1 and self._stays(usable[0], found))
        if usable and not alone:
            ways = (CONCAT,) if any(each.sparse for each in usable) else WAYS
            way = gate.passing([each.header.fidelity for each in usable], ways, self.limits)
            why = refusal(self.model.network, mode=way, tokens=tokens) if way else self._why_not(usable, ways)
            if way and not why:
                return way, list(found)
            # the first may still stand where it was read
            found = [
                f"several at once: {why}" if isinstance(each, _Found) and not self._stays(each, found) else each
                for each in found
            ]
        return CONCAT, [self._by_itself(each, tokens) if isinstance(each, _Found) else each for each in found]

    def _by_itself(self, each: _Found, tokens: int) -> Fate:
        """A memory that is put back without others, or why it cannot be."""
        at, base = each.placed.at, each.placed.memory.base
        # what begins the prompt is continued from as it is, whatever the model is like
        if at == base == 0 and not each.sparse:
            return each
        return refusal(self.model.network, mode=CONCAT, tokens=tokens, moved=at != base) or each

    def _stays(self, each: _Found, before: Sequence[Fate]) -> bool:
        """Whether a memory is the first, stands where it was read, and has all that it read: then it is as its text."""
        return each is before[0] and each.placed.at == each.placed.memory.base and not each.sparse

    def _why_not(self, usable: Sequence[_Found], ways: Sequence[str]) -> str:
        reasons = (gate.refusal(each.header.fidelity, self.limits, way=ways[-1]) for each in usable)
        return next(reason for reason in reasons if reason)


def _formed(one: Given, each: Fate, way: str) -> Formed:
    if isinstance(each, _Found):
        tokens = len(each.placed.memory.ids)
        return Formed(one.id, ACTIVATION, way, tokens, tokens, "")
    return Formed(one.id, PLAINTEXT, "", 0, 0, each.message if isinstance(each, MemosError) else each)


def _insist(given: Sequence[Given], used: Sequence[Fate]) -> None:
    """Raises for the first memory that would be read as text."""
    for one, each in zip(given, used, strict=True):
        if isinstance(each, WrongModel | Damaged):
            raise each
        if not isinstance(each, _Found):
            why = each.message if isinstance(each, MemosError) else each
            hint = "memos convert CUBE --to activation, or --form auto"
            raise CheckFailed(f"expected {one.id} as activation memory: {why}", hint=hint)


def _split(composed: Composed, tokens: int) -> dict[str, float]:
    """The seconds of the pass by what it was for: its own stages, and the pass itself by the share of tokens."""
    rest = tokens - composed.reused - composed.recomputed
    share = composed.recomputed / max(1, composed.recomputed + rest)
    read = composed.seconds["read"]
    return {
        "rotate": composed.seconds["rotate"],
        "recompute": composed.seconds["choose"] + share * read,
        "question": (1 - share) * read,
    }


def whole_form(formed: Sequence[Formed]) -> str:
    """One word for the forms of all memories that were used: `mixed` where there are several."""
    forms = {one.form for one in formed if one.form}
    return "mixed" if len(forms) > 1 else next(iter(forms), PLAINTEXT)


def rounded(seconds: dict[str, float]) -> dict[str, float]:
    """Seconds to the microsecond."""
    return {name: round(value, 6) for name, value in seconds.items()}
