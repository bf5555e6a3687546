"""The page of an audit: one file of HTML that needs nothing else, made of facts that are handed in.

What stands in it comes from memories, file names and logs, which anyone may have written: every text is escaped, and
the page forbids itself scripts and connections, so that even a mistake here runs nothing. Knows no cube and no disk.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from memos_cli.operation import plots
from memos_cli.operation.findings import DAMAGE, WARNING, Audit
from memos_cli.operation.plots import Bar, Step, text
from memos_cli.operation.report_style import STYLE

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"


@dataclass(frozen=True, slots=True)
class Made:
    """A version, as a line of the page's table tells it."""

    step: Step
    operation: str
    time: str
    who: str
    reason: str


@dataclass(frozen=True, slots=True)
class Hot:
    """A memory that is read often: how often, where it stands, and what it says ("" when that must not leave)."""

    id: str
    reads: int
    place: str
    text: str


@dataclass(frozen=True, slots=True)
class Facts:
    """All that the page shows beside the findings. `about` and `costs` are lines of a name and a value."""

    title: str
    made_at: str
    program: str
    about: tuple[tuple[str, str], ...] = ()
    figures: tuple[tuple[str, str], ...] = ()
    forms: tuple[Bar, ...] = ()
    costs: tuple[tuple[str, str], ...] = ()
    versions: tuple[Made, ...] = ()
    kinds: tuple[Bar, ...] = ()
    ages: tuple[Bar, ...] = ()
    reads: tuple[Bar, ...] = ()
    hot: tuple[Hot, ...] = ()
    quoted: bool = True


def render(facts: Facts, audit: Audit) -> str:
    """The page."""
    body = [
        _head(facts, audit), _findings(audit), _tests(audit, facts.quoted), _forms(facts), _lineage(facts),
        _memories(facts), _heat(facts),
    ]  # fmt: skip
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{text(_POLICY)}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>{text(facts.title)}: memory audit</title><style>{STYLE}</style></head>\n<body><main>"
        + "\n".join(part for part in body if part)
        + f"\n<footer>{text(facts.program)} · {text(facts.made_at)}</footer></main></body></html>\n"
    )


def _head(facts: Facts, audit: Audit) -> str:
    damage = sum(one.severity == DAMAGE for one in audit.findings)
    warnings = sum(one.severity == WARNING for one in audit.findings)
    kind, verdict = ("good", "Sound")
    if damage:
        kind, verdict = "bad", f"Damaged in {damage} {'place' if damage == 1 else 'places'}"
    elif warnings:
        kind, verdict = "fair", f"{warnings} {'warning' if warnings == 1 else 'warnings'}"
    how = "every byte and row was read" if audit.deep else "names and sizes were compared"
    figures = "".join(f"<div><b>{text(value)}</b><span>{text(name)}</span></div>" for name, value in facts.figures)
    about = "".join(f"<dt>{text(name)}</dt><dd>{text(value)}</dd>" for name, value in facts.about if value)
    return (
        f'<header><p class="over">Memory audit</p><h1>{text(facts.title)}</h1>'
        f'<p class="verdict {kind}"><strong>{text(verdict)}</strong> <span>{text(how)}</span></p></header>'
        f'<section class="figures">{figures}</section><section><dl>{about}</dl></section>'
    )


def _findings(audit: Audit) -> str:
    if not audit.findings:
        return _section("Findings", '<p class="none">Nothing was found.</p>')
    rows = [
        f'<tr><td><span class="pill {text(one.severity)}">{text(one.severity)}</span></td>'
        f'<td class="number">{text(one.code)}</td>'
        f'<td>{text(one.message)}<div class="place">{text(one.place)}</div></td>'
        f"<td><code>{text(one.remedy)}</code></td></tr>"
        for one in audit.findings
    ]
    return _section("Findings", _table(("", "code", "what and where", "what to do"), rows))


def _tests(audit: Audit, quoted: bool) -> str:
    if not audit.tests:
        return ""
    shares = [
        Bar(
            f"{one.form} ({one.questions})", one.share, f"{one.share:.0%} of {one.baseline:.0%}", one.baseline,
            "" if one.passed else "bad",
        )
        for one in audit.tests
    ]  # fmt: skip
    rows = [
        f"<tr><td>{text(one.form)}</td><td>{text(one.name)}</td><td>{text(one.expected)}</td>"
        f"<td>{text(one.found if quoted else '(left out)')}</td></tr>"
        for one in audit.missed
    ]
    table = _table(("form", "question", "expected", "found"), rows) if rows else '<p class="none">All passed.</p>'
    note = '<p class="note">The line is the baseline that a form must reach.</p>'
    return _section("Memory tests", plots.bars(shares, most=1.0, what="memory tests by form") + note + table)


def _forms(facts: Facts) -> str:
    if not facts.forms:
        return ""
    costs = "".join(f"<dt>{text(name)}</dt><dd>{text(value)}</dd>" for name, value in facts.costs)
    return _section("Forms and costs", plots.bars(facts.forms, what="bytes of each form") + f"<dl>{costs}</dl>")


def _lineage(facts: Facts) -> str:
    if not facts.versions:
        return ""
    rows = [
        f'<tr><td class="number">{one.step.number}</td><td>{text(one.operation)}'
        + "".join(f' <span class="pill">{text(tag)}</span>' for tag in one.step.tags)
        + f"</td><td>{text(one.time)}</td><td>{text(one.who)}</td><td>{text(one.reason, 300)}</td></tr>"
        for one in reversed(facts.versions)
    ]
    note = '<p class="note">Height is size, the stronger part is what was new in it. An arc goes back to a version.</p>'
    plot = plots.lineage([one.step for one in facts.versions], what="versions and their sizes")
    return _section("Versions", plot + note + _table(("", "what", "when", "who", "why"), rows))


def _memories(facts: Facts) -> str:
    parts = []
    if facts.kinds:
        parts.append(plots.bars(facts.kinds, what="memories by kind"))
    if facts.ages:
        parts.append("<h3>By month they were made</h3>" + plots.columns(facts.ages, what="memories by month"))
    return _section("Memories", "".join(parts)) if parts else ""


def _heat(facts: Facts) -> str:
    if not facts.reads and not facts.hot:
        return ""
    top = max((one.reads for one in facts.hot), default=1)
    rows = [_hot(one, top, facts.quoted) for one in facts.hot]
    note = "" if facts.quoted else '<p class="note">Texts are left out: not all of them may leave in a file.</p>'
    plot = plots.columns(facts.reads, what="reads by day")
    table = _table(("reads", "", "memory"), rows) if rows else '<p class="none">Nothing was read yet.</p>'
    return _section("Heat", (f"<h3>Reads by day</h3>{plot}" if plot else "") + note + table)


def _hot(one: Hot, top: int, quoted: bool) -> str:
    bar = f'<div class="heat"><i style="width:{100 * one.reads / top:.0f}%"></i></div>'
    place = f'<div class="place">{text(one.place)} · {text(one.id)}</div>'
    said = text(one.text, 200) if quoted else ""
    return f'<tr><td class="number">{one.reads}</td><td>{bar}</td><td>{said}{place}</td></tr>'


def _section(title: str, body: str) -> str:
    return f"<section><h2>{text(title)}</h2>{body}</section>"


def _table(names: Sequence[str], rows: Iterable[str]) -> str:
    head = "".join(f"<th>{text(name)}</th>" for name in names)
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>'
