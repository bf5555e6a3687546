"""Activation memory to and from other programs: packs of prompts for servers, prompt caches of mlx-lm.

What leaves a cube passes the share gate. What comes in was made by somebody else's program from somebody's weights, so
it is proved like our own before it may be used: only a measurement tells that it is of this model and this text.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from memos_cli.cube import activation, filters
from memos_cli.cube.scopes import highest
from memos_cli.errors import Damaged, NotFound, Usage
from memos_cli.infrastructure import vault
from memos_cli.interface import frame
from memos_cli.interface.converting import ACTIVATION, Run, chosen, converter_for
from memos_cli.interface.results import Converted, Exported

if TYPE_CHECKING:
    from memos_cli.cube.mlx import PromptCache
    from memos_cli.interface.frame import Changing, Reading
    from memos_cli.interface.results import Memory
    from memos_cli.operation.convert import Converter, Item
    from memos_cli.operation.prompt_pack import Pack
    from memos_cli.runtime.model import Loaded, LocalModel

PROMPT, MLX = "prompt", "mlx"
MEMOS = "memos"
_PROGRAMS = {MLX: "mlx-lm", MEMOS: "MemOS"}
# What is exported goes to a file, though it be written to standard output.
FILE = "file"
# A file that only this program has read tells nothing of who made it.
UNVERIFIED = "unverified"


@dataclass(frozen=True, slots=True)
class _Opened:
    """A model, and the memories that were chosen."""

    local: LocalModel
    model: Loaded
    memories: list[Memory]


def export(
    cube: str | Path,
    path: str | Path,
    *,
    to: str = PROMPT,
    model: str = "nano",
    where: str | None = None,
    ids: Sequence[str] = (),
    home: Path | None = None,
    notify: frame.Notify | None = None,
) -> tuple[Exported, str]:
    """Writes memories for another program to `path`, and returns what was written; a path of `-` gives it as text.

    `prompt` is one line of JSON: messages and token ids to warm a server's prefix cache with. `mlx` is the prompt cache
    of one memory that was converted as a prefix. Raises NotAllowed without the right to share, NotFound, Usage.
    """
    condition = filters.to_sql(filters.parse(where)) if where else ""
    desk = frame.desk(home, notify)
    if to not in (PROMPT, MLX):
        raise Usage(f"expected {ACTIVATION}, {PROMPT} or {MLX} as what to convert to, found {to!r}")
    with frame.reading(desk, cube, "export") as seen:
        memories = list(chosen(seen, condition, ids, to=FILE))
        seen.touched = [one.id for one in memories]
        seen.facts |= {"to": to, "model": model}
        if not memories:
            raise NotFound("expected memories to export, found none", hint=f"memos list {cube}")
        if to == MLX:
            return _export_mlx(seen, cube, Path(path), model, memories), ""
        from memos_cli.runtime.model import LocalModel

        local = LocalModel(model)
        packed = _pack(_Opened(local, local.load(), memories))
        line = packed.line() + "\n"
        size = len(line.encode())
        if str(path) != "-":
            vault.write_bytes(Path(path), line.encode())
        told = tuple(one.id for one in memories)
        label = highest([one.sensitivity for one in memories])
        return Exported(str(cube), to, local.name, str(path), told, packed.tokens, size, "", label), line


def _pack(opened: _Opened) -> Pack:
    from memos_cli.operation.prompt_pack import pack
    from memos_cli.runtime.fingerprint import NONE, digest_of, tokenizer_digest
    from memos_cli.runtime.messages import message_ids

    tokenizer, traits = opened.model.tokenizer, opened.local.traits
    template = tokenizer.chat_template
    return pack(
        opened.memories, tokenise=lambda messages: message_ids(opened.model, messages), model=opened.local.name,
        tokenizer=tokenizer_digest(tokenizer), chat_template=digest_of(template) if template else NONE,
        spans=traits.spans, unknown=traits.unknown, control_tokens=tokenizer.all_special_tokens,
        sensitivity=highest([one.sensitivity for one in opened.memories]),
        expires_at=min((one.expires_at for one in opened.memories if one.expires_at), default=None),
    )  # fmt: skip


def _export_mlx(seen: Reading, cube: str | Path, path: Path, model: str, memories: Sequence[Memory]) -> Exported:
    from memos_cli.cube import mlx
    from memos_cli.operation.convert import PREFIX
    from memos_cli.runtime.fingerprint import fingerprint
    from memos_cli.runtime.model import LocalModel

    if len(memories) != 1 or str(path) == "-":
        raise Usage(
            f"a prompt cache is a file of one memory, found {len(memories)} for {path}", hint="--ids ID -o FILE"
        )
    (one,) = memories
    local = LocalModel(model)
    made_with = fingerprint(local.load(), local.folder, cache=seen.desk.home / "cache")
    files = [activation.read(file) for file in activation.find(seen.path / activation.FOLDER, memory=one.id)]
    # another model's cache under this one's name would be taken for it by whoever loads it
    own = [made for made in files if dict(made.header.hard) == dict(made_with.hard)]
    found = [made for made in own if made.header.kind == PREFIX and not made.header.quantization]
    if not found:
        raise NotFound(
            f"expected activation memory of {one.id} for {local.name} that begins a prompt, found none",
            hint=f"memos convert {cube} --ids {one.id} --model {model} --kind {PREFIX}",
        )
    mlx.write(activation.open_layers(found[0].path), path, model=model)
    return Exported(
        str(cube), MLX, local.name, str(path), (one.id,), found[0].header.tokens, path.stat().st_size, UNVERIFIED,
        one.sensitivity,
    )  # fmt: skip


def import_cache(
    cube: str | Path,
    path: str | Path,
    *,
    memory: str,
    model: str = "nano",
    reason: str = "",
    lock_timeout: float = 10.0,
    home: Path | None = None,
    notify: frame.Notify | None = None,
) -> Converted:
    """Takes a prompt cache of mlx-lm, or the cache of this text in the `activation_memory.pickle` of an official MemOS
    cube, as the activation memory of one memory, and proves it with `model`.

    A cache of other weights or another text is kept out of use by the gate: what it was measured at stands in its file.
    Raises Damaged for a hostile file, Usage for one of another number of tokens or layers, NotFound, NotAllowed.
    """
    from memos_cli.operation.convert import Way

    desk = frame.desk(home, notify)
    run = Run(model)
    with frame.changing(desk, cube, "convert", reason=reason, lock_timeout=lock_timeout) as change:
        (wanted,) = chosen(change, "", [memory])
        converter = converter_for(desk, run, model, Way())
        item = converter.item(wanted)
        if isinstance(item, str):
            raise Usage(f"{memory} cannot have activation memory: {item}")
        cache, whose = _read_cache(Path(path), text=wanted.text)
        _take_in(run, change, converter, item, cache, whose=whose)
        change.touched = [memory]
        change.facts |= {"form": ACTIVATION, "model": run.model, "from": whose}
        number = change.commit({"converted": 1, "to": ACTIVATION, "model": run.model, "from": whose}).number
        return run.told(cube, number, dry_run=False)


def _read_cache(path: Path, *, text: str) -> tuple[PromptCache, str]:
    """The cache of a text in a file of another program, and which program's; told by how the file begins."""
    from memos_cli.cube import mlx, official_cache

    try:
        with path.open("rb") as file:
            head = file.read(2)
    except OSError as error:
        raise NotFound(f"{path}: cannot be read ({error.strerror})") from error
    if not official_cache.is_pickle(head):
        return mlx.read(path), MLX
    kept = official_cache.choose(official_cache.read(path), text=text, place=str(path))
    return official_cache.prompt_cache(kept, place=str(path)), MEMOS


def _take_in(run: Run, change: Changing, converter: Converter, item: Item, cache: PromptCache, *, whose: str) -> None:
    from memos_cli.cube import mlx

    kind, ids = _tokens_of(converter, item, cache.tokens)
    if cache.token_ids is not None and tuple(cache.token_ids) != ids:
        raise Damaged(
            f"the prompt cache is of other tokens than {item.memory.id} has in a prompt of {converter.model.name}",
            hint="it is of another text, tokenizer or template",
        )
    header = mlx.header_of(cache, converter.header(item), token_ids=ids, whose=_PROGRAMS[whose])
    made = converter.take_in(change.path / activation.FOLDER, item, header, kind, ids, cache.tensors)
    run.made.append(made.memory)
    run.bytes, run.tokens = made.bytes, made.tokens
    if made.refusal:
        run.failing.append(made.memory)


def _tokens_of(converter: Converter, item: Item, count: int) -> tuple[str, tuple[int, ...]]:
    """What a foreign cache of so many tokens is of: the prompt up to the memory's end, or its text alone."""
    for kind, ids in _candidates(converter, item):
        if len(ids) == count:
            return kind, ids
    counts = " or ".join(str(len(ids)) for _, ids in _candidates(converter, item))
    raise Usage(
        f"the prompt cache is of {count} tokens; {item.memory.id} has {counts} here", hint="memos show --memory"
    )


def _candidates(converter: Converter, item: Item) -> Iterator[tuple[str, tuple[int, ...]]]:
    from memos_cli.operation.convert import PREFIX, SEGMENT
    from memos_cli.runtime.generate import tokenize

    yield PREFIX, item.ids[: item.span[1]]
    yield SEGMENT, tuple(tokenize(converter.model, item.line))
