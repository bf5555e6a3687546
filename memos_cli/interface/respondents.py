"""Who answers from memories: a model in this process, or one behind an OpenAI-compatible address.

Both take the same prompts, count tokens, and write an answer that somebody may hear as it comes. What they know of
memories is the text they are given.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Protocol

from memos_cli.cube import activation, parameter
from memos_cli.errors import CheckFailed, Damaged, Usage, WrongModel
from memos_cli.interface.sending import Destination, Server
from memos_cli.operation.activate import ACTIVATION, AUTO, FORMS, PARAMETER, PLAINTEXT, Formed, Given
from memos_cli.operation.answer import Prompt, disarmed
from memos_cli.operation.gate import Limits
from memos_cli.operation.reading import ANY

if TYPE_CHECKING:
    from memos_cli.interface.warming import Warm
    from memos_cli.operation.activate import Activations, Answer
    from memos_cli.operation.learned import Learned
    from memos_cli.operation.utility import Helped
    from memos_cli.runtime.endpoint import Endpoint
    from memos_cli.runtime.fingerprint import Fingerprint
    from memos_cli.runtime.model import LocalModel, Traits
    from memos_cli.runtime.spans import Prompt as Drafted

OnText = Callable[[str], None]
SPAN_LIMIT_TOKENS, ANSWER_LIMIT_TOKENS = 64, 400
# A model elsewhere may think first, and what it thinks counts.
SERVED_LIMIT_TOKENS = 1024
# Why memories are text in a talk: files and adapters were measured on a question that stands alone.
IN_TALK = "it was made for a question without a talk around it"
OWN, TOLD, ESTIMATED = "model", "server", "estimate: 4 characters a token"


@dataclass(frozen=True, slots=True)
class Said:
    """What was written: text, whether the limit cut it, tokens and who counted them, and seconds.

    `stages` are the seconds up to the first token; `formed` the form of each memory, of whose tokens `reused` were not
    read and `recomputed` were read again.
    """

    text: str
    cut: bool
    prompt_tokens: int
    tokens: int
    tokens_by: str
    stages: dict[str, float]
    seconds: float
    formed: tuple[Formed, ...] = ()
    reused: int = 0
    recomputed: int = 0
    warnings: tuple[str, ...] = ()


class Respondent(Protocol):
    """One who answers. Raises what its model raises: NotFound, Damaged, MissingExtra, StoreFailed, Usage."""

    @property
    def name(self) -> str: ...
    @property
    def there(self) -> Destination | None:
        """Where the text goes; None for this process."""
        ...

    @property
    def traits(self) -> Traits: ...
    @property
    def may_read(self) -> bool:
        """Whether the text may be read where an adapter has no answer."""
        ...

    def load(self) -> dict[str, float]:
        """Makes ready what can be; the seconds of what was not."""
        ...

    def count_tokens(self, text: str) -> int: ...
    def fits(self, prompt: Prompt, given: Sequence[Given]) -> bool:
        """Whether a prompt with these memories and its answer are within the model's window, as far as it is known."""
        ...

    def write(
        self, prompt: Prompt, given: Sequence[Given], *, on_text: OnText | None, forms: Collection[str] = ANY
    ) -> Said:
        """The answer, from memories in `forms` only, unless another is insisted on."""
        ...

    def renew(self) -> None:
        """Lets go of what was only so when it was last asked."""
        ...

    def gains(self, question: str, memories: Sequence[Helped], answer: str) -> dict[str, float]:
        """How much likelier each of the first memories made an answer; empty where nobody can tell."""
        ...


def respondent(
    model: str, server: Server | None, *, form: str, limits: Limits, home: Path, warm: Warm | None = None
) -> Respondent:
    """Who is called so, in this process or at `server`; loads nothing, connects to nothing. Raises NotFound, Usage.

    With `warm` it is who was called so before, if there was one.
    """
    if form not in FORMS:
        raise Usage(f"expected a form of {', '.join(FORMS)}, found {form!r}")
    if server is not None:
        if form in (ACTIVATION, PARAMETER):
            raise Usage(f"{form} memory needs a model in this process, found a server", hint="--runtime local")
        return _served(model, server)
    from memos_cli.runtime.model import LocalModel

    limits.check()
    if warm is None:
        local = LocalModel(model)
        return _Local(local, local.traits, form, limits, home / "cache")
    shared = warm.model(model, lambda: LocalModel(model))
    return warm.respondent(
        (model, form, limits), lambda: _Local(shared, shared.traits, form, limits, home / "cache")
    )  # fmt: skip


@dataclass(slots=True)
class _Local:
    """A model in this process, which takes memories in the forms that they have for it."""

    model: LocalModel
    traits: Traits
    form: str
    limits: Limits
    cache: Path
    there: Destination | None = None
    _drafted: tuple[Prompt, Drafted] | None = field(default=None, repr=False)
    _made_with: Fingerprint | None = field(default=None, repr=False)
    _learned: Learned | None = field(default=None, repr=False)
    _activations: Activations | None = field(default=None, repr=False)

    @property
    def name(self) -> str:
        return self.model.name

    @property
    def may_read(self) -> bool:
        return self.form == AUTO

    def load(self) -> dict[str, float]:
        from memos_cli.runtime.model import import_libraries

        if self.model.loaded:
            return {}
        start = perf_counter()
        import_libraries(self.name)
        imported = perf_counter()
        self.model.load()
        return {"imports": round(imported - start, 6), "weights": round(perf_counter() - imported, 6)}

    def count_tokens(self, text: str) -> int:
        from memos_cli.runtime.generate import count_tokens

        return count_tokens(self.model.load(), text)

    def fits(self, prompt: Prompt, given: Sequence[Given]) -> bool:
        window = self.model.load().window
        return window is None or len(self._draft(prompt, given).ids) + self._limit <= window

    def write(
        self, prompt: Prompt, given: Sequence[Given], *, on_text: OnText | None, forms: Collection[str] = ANY
    ) -> Said:
        start = perf_counter()
        if prompt.talk:
            return self._write_as_text(prompt, given, on_text=on_text)
        taught = PARAMETER in forms or self.form == PARAMETER
        found = self._from_adapter(prompt, given, on_text) if taught else None
        if found is None:
            drafted, form = self._draft(prompt, given), AUTO if self.form == PARAMETER else self.form
            form = PLAINTEXT if form == AUTO and ACTIVATION not in forms else form
            found = self._with(given).write(drafted, given, form=form, limit_tokens=self._limit, on_text=on_text)
        return _said(found, start)

    def _write_as_text(self, prompt: Prompt, given: Sequence[Given], *, on_text: OnText | None) -> Said:
        """The answer where no stored form holds. Raises CheckFailed when one is insisted on."""
        start = perf_counter()
        if self.form in (ACTIVATION, PARAMETER):
            raise CheckFailed(f"no {self.form} memory can serve: {IN_TALK}", hint="form auto, or the question alone")
        drafted = self._draft(prompt, given)
        found = self._with(()).write(drafted, given, form=PLAINTEXT, limit_tokens=self._limit, on_text=on_text)
        return replace(_said(found, start), formed=tuple(replace(one, why=IN_TALK) for one in found.formed))

    def renew(self) -> None:
        # adapters end with time, and files that are kept open are those of versions that may have gone
        self._drafted = self._learned = self._activations = None

    def gains(self, question: str, memories: Sequence[Helped], answer: str) -> dict[str, float]:
        from memos_cli.operation.tutor import Tutor
        from memos_cli.operation.utility import gains

        return gains(Tutor(self.model.load(), self.traits), question, memories, answer)

    def _from_adapter(self, prompt: Prompt, given: Sequence[Given], on_text: OnText | None) -> Answer | None:
        """The answer of the adapter that was taught the best memory; None where it is to be read.

        Raises CheckFailed, WrongModel or Damaged when an adapter is insisted on and none can serve.
        """
        insisted = self.form == PARAMETER
        if not insisted and (self.form != AUTO or not given or not _is_only_learned(given[0])):
            return None
        from memos_cli.operation.learned import Learned, Route

        if self._learned is None:
            self._learned = Learned(self.model.load(), self.traits, self._fingerprint(), datetime.now(UTC))
        route = self._learned.route(given)
        try:
            if isinstance(route, Route):
                return self._learned.write(prompt.question, given, route, limit_tokens=self._limit, on_text=on_text)
        except CheckFailed as error:
            route = error
        if insisted and isinstance(route, WrongModel | Damaged):
            raise route
        if insisted:
            why = route if isinstance(route, str) else route.message
            raise CheckFailed(f"no adapter can answer: {why}", hint="memos distill CUBE, or --form auto")
        return None

    def _with(self, given: Sequence[Given]) -> Activations:
        """The model, and what tells which files are its own: that takes reading its weights once."""
        from memos_cli.operation.activate import Activations
        from memos_cli.runtime.fingerprint import Fingerprint

        loaded = self.model.load()
        if self._activations is None and self.form != PLAINTEXT and any(one.folder.is_dir() for one in given):
            self._activations = Activations(loaded, self._fingerprint(), self.limits)
        return self._activations or Activations(loaded, Fingerprint({}, {}), self.limits)

    def _fingerprint(self) -> Fingerprint:
        from memos_cli.runtime.fingerprint import fingerprint

        if self._made_with is None:
            self._made_with = fingerprint(self.model.load(), self.model.folder, cache=self.cache)
        return self._made_with

    @property
    def _limit(self) -> int:
        return SPAN_LIMIT_TOKENS if self.traits.spans else ANSWER_LIMIT_TOKENS

    def _draft(self, prompt: Prompt, given: Sequence[Given]) -> Drafted:
        from memos_cli.runtime.spans import prompt_of

        if self._drafted is None or self._drafted[0] != prompt:
            texts = [one.line for one in given]
            found = prompt_of(
                self.model.load(), prompt.user, system=prompt.system, texts=texts, turns=prompt.talk.turns
            )  # fmt: skip
            self._drafted = prompt, found
        return self._drafted[1]


def _said(found: Answer, start: float) -> Said:
    done = found.written
    return Said(
        done.text, done.cut, found.prompt_tokens, done.tokens, OWN, found.seconds,
        round(perf_counter() - start, 6), found.formed, found.reused, found.recomputed, found.warnings,
    )  # fmt: skip


def _is_only_learned(best: Given) -> bool:
    """Whether there are adapters beside a memory that has no cache: those are as good as its text, and come first."""
    learned = (best.folder.parent / parameter.FOLDER).is_dir()
    return learned and not activation.find(best.folder, memory=best.id)


def _served(model: str, server: Server) -> _Served:
    from memos_cli.runtime.endpoint import address_of, open_endpoint
    from memos_cli.runtime.model import Traits

    address = address_of(server.url, flag="--base-url")
    there = Destination(model, address.host, not address.here, address.here or address.encrypted)
    return _Served(open_endpoint(model, address, key=server.key), there, Traits())


@dataclass(slots=True)
class _Served:
    """A model behind an address. Its window is not known; a server that is given too much says so."""

    endpoint: Endpoint
    there: Destination
    traits: Traits

    @property
    def name(self) -> str:
        return self.endpoint.name

    @property
    def may_read(self) -> bool:
        return True

    def load(self) -> dict[str, float]:
        return {}

    def count_tokens(self, text: str) -> int:
        return (len(text) + 3) // 4

    def fits(self, prompt: Prompt, given: Sequence[Given]) -> bool:
        return True

    def write(
        self, prompt: Prompt, given: Sequence[Given], *, on_text: OnText | None, forms: Collection[str] = ANY
    ) -> Said:
        from memos_cli.runtime.generate import in_a_row

        said = [("system", prompt.system), *in_a_row([*prompt.talk.turns, ("user", prompt.user)])]
        messages = [(role, disarmed(text)) for role, text in said]
        # always as a stream: otherwise nobody can tell when the first word came
        done = self.endpoint.chat(messages, limit_tokens=SERVED_LIMIT_TOKENS, stream=True, on_text=on_text)
        if done.prompt_tokens is not None and done.tokens is not None:
            counts = (done.prompt_tokens, done.tokens, TOLD)
        else:
            read = sum(self.count_tokens(text) for _, text in messages)
            counts = (read, self.count_tokens(done.text), ESTIMATED)
        stages = {"question": round(done.first_seconds, 6)}
        return Said(done.text, done.cut, *counts, stages, round(done.seconds, 6), _as_text(given))

    def renew(self) -> None:
        pass

    def gains(self, question: str, memories: Sequence[Helped], answer: str) -> dict[str, float]:
        return {}


def _as_text(given: Sequence[Given]) -> tuple[Formed, ...]:
    return tuple(Formed(one.id, PLAINTEXT, "", 0, 0, "a server takes text only") for one in given)
