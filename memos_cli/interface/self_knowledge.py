"""The part of a self-test that asks a model: how likely it gives a memory's answers from caches and from adapters."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from memos_cli.cube import activation, parameter
from memos_cli.errors import Damaged, MemosError, Usage
from memos_cli.interface import frame
from memos_cli.interface.converting import Run, chosen, converter_for
from memos_cli.interface.self_teaching import NO_BETTER, HeldOut, carries
from memos_cli.interface.self_testing import ACTIVATION, PARAMETER, Bench, Told
from memos_cli.interface.tested import FormTested, Repaired
from memos_cli.operation.self_test import DEV, TEST, Asked

if TYPE_CHECKING:
    from memos_cli.operation.convert import Converter
    from memos_cli.operation.known import Known

MEASURE = "probability of the answer"
RE_READ, RE_DISTIL = "read anew", "re-distil"


@dataclass(frozen=True, slots=True)
class _Chances:
    """The mean probability of a memory's answers in one split: from its text, and from the form; why it has none."""

    text: float
    form: float
    why: str = ""


def _open(bench: Bench) -> tuple[Converter, Known]:
    from memos_cli.operation.convert import Way
    from memos_cli.operation.known import Known
    from memos_cli.operation.tutor import Tutor

    converter = converter_for(bench.desk, Run(bench.model), bench.model, Way())
    return converter, Known(Tutor(converter.model, converter.traits), converter.fingerprint)


def test_caches(bench: Bench, told: Told) -> None:
    """Asks the model with each memory's cache in the place of its text; on a draft reads anew what falls short."""
    from memos_cli.operation.known import READABLE, mean

    folder = bench.seen.path / activation.FOLDER
    held = [one for one in bench.asked if activation.find(folder, memory=one)]
    if not held:
        told.notes.append("no memory that was asked about has a cache: memos convert makes them")
        return
    converter, known = _open(bench)
    dev = {one: _cached(known, bench, one, DEV, folder) for one in held}
    test = {one: _cached(known, bench, one, TEST, folder) for one in held}
    able = [one for one in held if dev[one].text >= READABLE and test[one].text >= READABLE]
    missed = [one for one in able if _short(dev[one])]
    after = dict(test)
    may: set[str] = set()
    if bench.draft is not None and missed:
        bench.seen.ask("convert")
        may = {one.id for one in chosen(bench.seen, "", ())}
    for one in missed:
        found = _told(bench, one, test[one], dev[one])
        if bench.draft is not None and one in may:
            with TemporaryDirectory() as beside:
                fresh, now = _read_anew(converter, known, bench, one, Path(beside))
                if now is not None:
                    found = replace(found, after=round(now.form, 4), kept=now.form > test[one].form + 1e-6)
                    found = replace(found, why="" if found.kept else NO_BETTER)
                if fresh is not None and found.kept and now is not None:
                    after[one] = now
                    _put(folder, fresh, one)
        told.repairs.append(found)
    told.forms.append(FormTested(
        ACTIVATION, converter.model.name, MEASURE, len(able), _count(bench, able),
        round(mean([dev[one].form for one in able]), 4), round(mean([test[one].form for one in able]), 4),
        round(mean([after[one].form for one in able]), 4) if bench.draft is not None and missed else None,
        round(mean([test[one].text for one in able]), 4), len(missed), len(held) - len(able),
    ))  # fmt: skip


def _count(bench: Bench, ids: Sequence[str]) -> int:
    return sum(len(bench.of(one, DEV)) + len(bench.of(one, TEST)) for one in ids)


def _short(chances: _Chances) -> bool:
    from memos_cli.operation.known import ENOUGH

    return bool(chances.why) or chances.form < ENOUGH * chances.text


def _cached(known: Known, bench: Bench, one: str, split: str, folder: Path) -> _Chances:
    from memos_cli.operation.known import mean

    asked, memory = bench.of(one, split), bench.memories[one]
    text = mean(known.text(asked, memory))
    try:
        found = known.cached(asked, memory, folder)
    except MemosError as error:
        found = error.message
    # what cannot be used gives nothing: the text would be read
    return _Chances(text, 0.0, found) if isinstance(found, str) else _Chances(text, mean(found))


def _read_anew(
    converter: Converter, known: Known, bench: Bench, one: str, beside: Path
) -> tuple[Path | None, _Chances | None]:
    """A cache with nothing left out, in a folder of its own, and what the held-out wordings give with it."""
    item = converter.item(bench.memories[one])
    if isinstance(item, str):
        return None, None
    try:
        made = converter.make(beside, item)
    except Usage:
        return None, None
    return beside / made.name, _cached(known, bench, one, TEST, beside)


def _put(folder: Path, fresh: Path, one: str) -> None:
    """Puts a file in the place of those of the same memory that are for the same model."""
    made_for = dict(activation.read(fresh).header.hard)
    for path in activation.find(folder, memory=one):
        with suppress(Damaged):
            if dict(activation.read(path).header.hard) == made_for:
                path.unlink()
    shutil.copyfile(fresh, folder / fresh.name)


def _told(bench: Bench, one: str, test: _Chances, dev: _Chances) -> Repaired:
    why = dev.why or f"the cache gives {dev.form:.2f} where the text gives {dev.text:.2f}"
    return Repaired(
        one, ACTIVATION, RE_READ, bench.text(one), bench.of(one, DEV)[0].question, round(test.form, 4), None,
        kept=False, why=why, made=(),
    )  # fmt: skip


# ---- adapters


def test_adapters(bench: Bench, told: Told, *, redistil: bool) -> None:
    """Asks the model with each of the cube's adapters on it, and no text."""
    from memos_cli.infrastructure import adapters

    folder = bench.seen.path / parameter.FOLDER
    names = parameter.names(folder)
    if not names:
        told.notes.append("the cube has no adapter: memos distill makes one")
        return
    _, known = _open(bench)
    for name in names:
        try:
            chain = adapters.check(
                folder, name, model=known.tutor.model.name, fingerprint=known.fingerprint, now=frame.now()
            )
        except MemosError as error:
            told.notes.append(f"adapter {name} was not tested: {error.message}")
            continue
        taught = [one for one in bench.asked if one in chain[-1].memory_ids or one in chain[0].memory_ids]
        if taught:
            _adapter(bench, told, known, name, [one.path for one in chain], taught, redistil=redistil)


def _adapter(
    bench: Bench, told: Told, known: Known, name: str, chain: Sequence[Path], taught: Sequence[str], *, redistil: bool
) -> None:  # fmt: skip
    from memos_cli.operation.known import ENOUGH, READABLE, mean

    asked = {split: {one: _plain(bench.of(one, split)) for one in taught} for split in (DEV, TEST)}
    text = {one: mean(known.text(asked[TEST][one], bench.memories[one])) for one in taught if asked[TEST][one]}
    able = [one for one in taught if asked[DEV][one] and text.get(one, 0.0) >= READABLE]
    if not able:
        told.notes.append(f"adapter {name} was not tested: no question about what it was taught can be answered")
        return
    dev, test = _learned(known, chain, asked, able)
    missed = [one for one in able if dev[one] < ENOUGH * mean(known.text(asked[DEV][one], bench.memories[one]))]
    before = round(mean([test[one] for one in able]), 4)
    told.forms.append(FormTested(
        PARAMETER, name, MEASURE, len(able), sum(len(asked[split][one]) for split in asked for one in able),
        round(mean([dev[one] for one in able]), 4), before, None, round(mean([text[one] for one in able]), 4),
        len(missed), len(taught) - len(able),
    ))  # fmt: skip
    if missed:
        question = asked[DEV][missed[0]][0].question
        why = f"{len(missed)} of {len(able)} memories fall short"
        if carried := carries(bench.seen.path / parameter.FOLDER, name):
            why += f"; {carried}"
        else:
            why += "" if redistil else "; --redistil makes it anew"
            told.short[name] = HeldOut({one: asked[TEST][one] for one in able}, before)
        told.repairs.append(
            Repaired(name, PARAMETER, RE_DISTIL, bench.text(missed[0]), question, before, None, False, why, ())
        )


def _plain(asked: Sequence[Asked]) -> list[Asked]:
    """Questions that make sense with nothing before them: what a sentence goes on with is not among them."""
    from memos_cli.operation.probes import CLOZE

    return [one for one in asked if one.kind != CLOZE] or list(asked)


def _learned(
    known: Known, chain: Sequence[Path], asked: dict[str, dict[str, list[Asked]]], able: Sequence[str]
) -> tuple[dict[str, float], dict[str, float]]:
    """The mean probability of each memory's answers with the adapters on the model, by split."""
    from memos_cli.operation.known import mean
    from memos_cli.runtime import adapter

    with adapter.attach(known.tutor.model.network, list(chain)):
        dev, test = ({one: mean(known.bare(asked[split][one])) for one in able} for split in (DEV, TEST))
        return dev, test
