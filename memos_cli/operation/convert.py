"""From text to activation memory: a memory is read once, proved, and kept as what the model made of it.

The memory is read where it will stand: after the beginning that every prompt of this model has. What it costs and
saves is measured on a few of them before anything is made. Works in the folder it is handed; knows no version.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import TYPE_CHECKING, Any, Protocol

from memos_cli.cube import activation
from memos_cli.errors import Usage
from memos_cli.infrastructure import dumper, loader
from memos_cli.infrastructure.dumper import About, Storage
from memos_cli.operation import answer as answers
from memos_cli.operation import gate
from memos_cli.runtime import kv, sparse
from memos_cli.runtime.compose import BLEND, CONCAT, LINK, Placed, attended, inject, refusal
from memos_cli.runtime.compress import CHUNK_KEPT, CHUNK_TOKENS, MEMORY3, METHODS, compress
from memos_cli.runtime.fidelity import compare
from memos_cli.runtime.generate import tokenize
from memos_cli.runtime.spans import prompt_of

if TYPE_CHECKING:
    from memos_cli.cube.activation import Header, Tensor
    from memos_cli.runtime.fingerprint import Fingerprint
    from memos_cli.runtime.kv import Pass
    from memos_cli.runtime.model import Loaded, Traits

SEGMENT, PREFIX = "segment", "prefix"
KINDS = (SEGMENT, PREFIX)
# Ways of composing, the cheapest first.
WAYS = (CONCAT, LINK, BLEND)
# Memories that are proved beside one another, and in how many groups.
COMPOSED, GROUPS = 4, 3
PROBE_TOKENS = 12
REPEAT = "Repeat what was said before, word by word:"


@dataclass(frozen=True, slots=True)
class Compression:
    """How tokens are chosen, and what share of them (or how many) each head keeps; None is the method's own."""

    method: str
    keep: float | int | None = None

    @classmethod
    def parse(cls, text: str) -> Compression:
        """`kvzip:0.5`, `h2o:64` or `memory3`. Raises Usage."""
        method, _, amount = text.partition(":")
        try:
            keep = (float(amount) if "." in amount else int(amount)) if amount else None
        except ValueError:
            keep = -1
        right = keep is not None and (0 < keep < 1 if isinstance(keep, float) else keep > 0)
        if method not in METHODS or not (right or (keep is None and method == MEMORY3)):
            known = ", ".join(METHODS)
            raise Usage(
                f"expected METHOD:KEEP, a method of {known} and a share below 1 or a number of tokens, found {text!r}",
                hint="such as --compress kvzip:0.5; memory3 needs no KEEP",
            )
        return cls(method, keep)

    def count(self, tokens: int) -> int:
        """About how many of so many tokens a head keeps."""
        keep = CHUNK_KEPT / CHUNK_TOKENS if self.keep is None else self.keep
        return min(tokens, keep) if isinstance(keep, int) else max(1, round(keep * tokens))


@dataclass(frozen=True, slots=True)
class Way:
    """How memories are converted."""

    kind: str = SEGMENT
    storage: Storage = Storage()
    compression: Compression | None = None
    probes: int = 1
    limits: gate.Limits = gate.Limits()


class Kept(answers.Told, Protocol):
    """What is needed of a memory: what a prompt shows, its id, its label and its end."""

    @property
    def id(self) -> str: ...
    @property
    def sensitivity(self) -> str: ...
    @property
    def expires_at(self) -> datetime | None: ...


@dataclass(frozen=True, slots=True)
class Item:
    """A memory and its tokens in a prompt of its own; `span` are the places of those that are the text's."""

    memory: Kept
    ids: tuple[int, ...]
    span: tuple[int, int]

    @property
    def line(self) -> str:
        """What the prompt shows of it."""
        return answers.line_of(self.memory)

    def stored(self, kind: str) -> tuple[int, int]:
        """The places of the tokens whose cache is kept: its own, or all from the prompt's beginning to its end."""
        return (0 if kind == PREFIX else self.span[0], self.span[1])


@dataclass(frozen=True, slots=True)
class Estimate:
    """What converting costs, from a sample: bytes and seconds of all, and the seconds that one saves at each use.

    `break_even_uses` is after how many uses one has saved the time it took; None where the text is read as fast.
    """

    bytes: int
    seconds: float
    saved_seconds: float
    break_even_uses: float | None
    sampled: int


@dataclass(frozen=True, slots=True)
class Made:
    """A file that was made: its memory, name, bytes, tokens and figures, and why the gate refuses it ("" if not)."""

    memory: str
    name: str
    bytes: int
    tokens: int
    fidelity: Mapping[str, float]
    refusal: str


def content_of(line: str) -> str:
    """The digest of what a prompt shows of a memory."""
    return f"sha256:{hashlib.sha256(line.encode('utf-8', 'surrogatepass')).hexdigest()}"


@dataclass(slots=True)
class Converter:
    """Memories of one model, one way."""

    model: Loaded
    traits: Traits
    fingerprint: Fingerprint
    way: Way
    made_at: str
    composed: Mapping[str, float] = field(default_factory=dict)

    def item(self, memory: Kept) -> Item | str:
        """A memory as it stands in a prompt, or why it cannot be converted."""
        ids, spans = self.prompt([memory], "?")
        if spans[0] is None:
            return "the tokenizer does not tell which tokens are its own"
        window = self.model.window
        if window is not None and len(ids) + gate_tokens(self.way) > window:
            return f"its prompt has {len(ids)} tokens, and {self.model.name} takes {window}"
        if self.way.kind == SEGMENT:
            tokens = len(ids) + gate_tokens(self.way)
            if why := refusal(self.model.network, mode=CONCAT, tokens=tokens, moved=False):
                return f"{why}; a {PREFIX} may be longer"
        return Item(memory, ids, spans[0])

    def prompt(
        self, memories: Sequence[Kept], question: str
    ) -> tuple[tuple[int, ...], tuple[tuple[int, int] | None, ...]]:
        prompt = answers.prompt_for(question, memories, spans=self.traits.spans, unknown=self.traits.unknown)
        lines = [answers.line_of(memory) for memory in memories]
        found = prompt_of(self.model, prompt.user, system=prompt.system, texts=lines)
        return found.ids, found.spans

    def header(self, item: Item) -> Header:
        """The header of an item's file, whose name is known before it is made."""
        chosen = self.way.compression
        source = {
            "tool": "memos convert", "made_at": self.made_at, "model": self.model.name,
            "sensitivity": item.memory.sensitivity,
            "expires_at": item.memory.expires_at.isoformat() if item.memory.expires_at else "",
        }  # fmt: skip
        about = About(
            item.memory.id, content_of(item.line), self.way.kind, source,
            {"method": chosen.method, "keep": str(chosen.keep or "")} if chosen else {},
        )  # fmt: skip
        first, last = item.stored(self.way.kind)
        return dumper.header_of(
            self.model.network, item.ids[first:last], about, fingerprint=self.fingerprint, storage=self.way.storage,
            position=first, kept=chosen.count(last - first) if chosen else None,
        )  # fmt: skip

    def make(self, folder: Path, item: Item) -> Made:
        """Reads one memory, proves it and writes its file into `folder`."""
        header = self.header(item)
        placed = self._read(item, header)
        kept = {**self._prove(item, placed), **self.composed}
        made = dumper.dump(folder, header, placed.memory, self.model.network, fidelity=kept)
        refused = gate.refusal(kept, self.way.limits)
        return Made(item.memory.id, made.path.name, made.path.stat().st_size, len(placed.memory.ids), kept, refused)

    def take_in(
        self, folder: Path, item: Item, header: Header, kind: str, ids: Sequence[int], tensors: Mapping[str, Tensor]
    ) -> Made:
        """Writes a cache that another program made into `folder`, with the figures that it is measured at here."""
        header = replace(header, kind=kind)
        with TemporaryDirectory() as beside:
            made = activation.write(Path(beside), header, token_ids=ids, tensors=tensors)
            held = loader.load(made.path, self.model.network, fingerprint=self.fingerprint).memory
            at = 0 if kind == PREFIX else item.span[0]
            # of its text alone it may be that its tokens are others in a prompt: then nothing can be measured
            same = tuple(item.ids[at : at + len(ids)]) == tuple(ids)
            kept = self._prove(item, Placed(held, at)) if same else {}
            found = activation.write(folder, replace(header, fidelity=kept), token_ids=ids, tensors=tensors)
        refused = gate.refusal(kept, self.way.limits)
        return Made(item.memory.id, found.path.name, found.path.stat().st_size, len(ids), kept, refused)

    def _read(self, item: Item, header: Header) -> Placed[Any]:
        """The memory as it will come back from its file, in the place where it was read."""
        first, last = item.stored(self.way.kind)
        memory: Any = kv.prefill(self.model.network, item.ids[first:last], context=item.ids[:first])
        if self.way.compression:
            memory = self._compressed(memory)
        return Placed(dumper.as_stored(header, memory), first)

    def _compressed(self, memory: Any) -> Any:
        chosen = self.way.compression
        assert chosen is not None
        # scores are those of a text that begins at 0; what is kept goes back to where it was read
        base = memory.base
        found = compress(
            self.model.network, kv.shift(self.model.network, memory, base=0), method=chosen.method, keep=chosen.keep,
            prompt=tokenize(self.model, REPEAT),
        )  # fmt: skip
        return sparse.shift(self.model.network, found, base=base)

    def _prove(self, item: Item, placed: Placed[Any]) -> dict[str, float]:
        """How near the model with this memory is to the one that reads its text, on questions about it."""
        asked = gate.questions(item.line, heading=item.memory.section, count=self.way.probes)
        before = item.ids[: item.span[1]]
        tails = [self.prompt([item.memory], text)[0][len(before) :] for text in asked]
        # a question may be as long as its memory; the shortest of all has room, or it would not be an item
        tails = [tail for tail in tails if self._fits(len(before) + len(tail))] or [item.ids[len(before) :]]
        with attended(self.model.network, [placed]):
            found = compare(
                self.model.network, before, tails, {"alone": self._reader(before, [placed], CONCAT)},
                answer_tokens=PROBE_TOKENS, ends=self.model.ends,
            )  # fmt: skip
        return gate.figures(found.of("alone"))

    def _fits(self, tokens: int) -> bool:
        """Whether a prompt of so many tokens and an answer are within the model's windows."""
        tokens += PROBE_TOKENS
        if self.way.kind == SEGMENT and refusal(self.model.network, mode=CONCAT, tokens=tokens, moved=False):
            return False
        return self.model.window is None or tokens <= self.model.window

    def _reader(
        self, before: Sequence[int], placed: Sequence[Placed[Any]], mode: str
    ) -> Callable[[Sequence[int]], Pass]:
        return lambda following: inject(self.model.network, [*before, *following], placed, mode=mode).read

    def prove_together(self, items: Sequence[Item]) -> Mapping[str, float]:
        """How near several memories before one question are, by each way of composing them; over a few groups.

        It is a matter of the model and the way more than of one memory, so every file gets the same figures. Nothing
        where there is only one memory, or where they cannot be composed.
        """
        groups = [items[at : at + COMPOSED] for at in range(0, len(items) - 1, COMPOSED)][:GROUPS]
        found = [told for group in groups if len(group) > 1 and (told := self._prove_group(group))]
        names = {name for told in found for name in told}
        pooled = {name: _pooled(name, [told[name] for told in found]) for name in names}
        self.composed = dict(sorted(pooled.items()))
        return self.composed

    def _prove_group(self, group: Sequence[Item]) -> dict[str, float]:
        memories, network = [item.memory for item in group], self.model.network
        # the one that has seen nothing of the others, and the one that should have seen most
        asked = [gate.questions(one.line, heading=one.memory.section)[0] for one in (group[-1], group[0])]
        ids, spans = max((self.prompt(memories, text) for text in asked), key=lambda found: len(found[0]))
        if not self._fits(len(ids)):
            return {}
        try:
            placed = [
                Placed(self._read(item, self.header(item)).memory, span[0] if self.way.kind == SEGMENT else 0)
                for item, span in zip(group, spans, strict=True)
                if span is not None and (self.way.kind == SEGMENT or item is group[0])
            ]
        except Usage:
            # of one of them nothing can be made, as it will be said of that one
            return {}
        if not placed or any(tuple(ids[one.at : one.end]) != tuple(one.memory.ids) for one in placed):
            return {}
        before = ids[: placed[-1].end]
        tails = [self.prompt(memories, text)[0][len(before) :] for text in asked]
        ways = [CONCAT] if self.way.compression else list(WAYS)
        readers = {way: self._reader(before, placed, way) for way in ways}
        try:
            with attended(network, placed):
                found = compare(network, before, tails, readers, answer_tokens=PROBE_TOKENS, ends=self.model.ends)
        except Usage:
            # a model whose memories cannot be moved has none to compose; `query` says so when it is asked to
            return {}
        return {name: value for way in ways for name, value in gate.figures(found.of(way), way=way).items()}

    def estimate(self, items: Sequence[Item]) -> Estimate:
        """What all of them cost and save, from making a few in a folder that is thrown away."""
        ordered = sorted(items, key=lambda item: len(item.ids))
        few = list({id(one): one for one in (ordered[len(ordered) * part // 6] for part in (1, 3, 5))}.values())
        with TemporaryDirectory() as folder:
            self.make(Path(folder), few[0])  # the first pass of a process costs what no other does
            spent = [self._spend(Path(folder), item) for item in few]
        tokens = sum(one.tokens for one in spent)
        share = sum(item.stored(self.way.kind)[1] - item.stored(self.way.kind)[0] for item in items) / tokens
        saved = sum(one.text - one.memory for one in spent) / len(spent)
        making = sum(one.made for one in spent)
        even = making / len(spent) / saved if saved > 0 else None
        size = round(sum(one.bytes for one in spent) * share)
        return Estimate(size, making * share, saved, even, len(spent))

    def _spend(self, folder: Path, item: Item) -> _Spent:
        start = perf_counter()
        made = self.make(folder, item)
        done = perf_counter()
        kv.forward(self.model.network, item.ids, cache=kv.new_cache(self.model.network), position=0, logits=1)
        read = perf_counter()
        held = loader.load(folder / made.name, self.model.network, fingerprint=self.fingerprint)
        placed = [Placed(held.memory, item.stored(self.way.kind)[0])]
        with attended(self.model.network, placed):
            inject(self.model.network, item.ids, placed, mode=CONCAT)
        return _Spent(made.tokens, made.bytes, done - start, read - done, perf_counter() - read)


@dataclass(frozen=True, slots=True)
class _Spent:
    """What one memory took: seconds to make it, to answer with its text, and with it loaded."""

    tokens: int
    bytes: int
    made: float
    text: float
    memory: float


def _pooled(name: str, values: Sequence[float]) -> float:
    """One figure of several groups: their mean, but what is the worst of a group is the worst of all."""
    kind = name.rpartition(".")[2]
    if kind in ("kl_max", "probes"):
        return max(values) if kind == "kl_max" else sum(values)
    if kind == "first":
        return min((value for value in values if value >= 0), default=-1.0)
    return sum(values) / len(values)


def gate_tokens(way: Way) -> int:
    """How many tokens a question and its answer may take when a memory is proved."""
    return 2 * PROBE_TOKENS if way.probes else 0
