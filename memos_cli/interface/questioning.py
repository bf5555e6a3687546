"""More questions about memories, written by a model behind an OpenAI-compatible address.

Its questions pass the same sieve as our own: the answer must stand in the memory, and the model that is taught must
answer rightly when it reads it. Memories leave this machine only as `sending` has it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from memos_cli.infrastructure import governance
from memos_cli.interface.sending import ENDPOINT, Destination, Server

if TYPE_CHECKING:
    from memos_cli.interface.frame import Reading
    from memos_cli.operation.convert import Kept
    from memos_cli.operation.probes import Probe

LIMIT_TOKENS = 600
SENDABLE = "--select 'sensitivity!=confidential and sensitivity!=restricted', or no --writer-url"


@dataclass(frozen=True, slots=True)
class Writer:
    """A wish to have a server's model write questions too: what it is called there, and the server."""

    model: str
    server: Server


def questions_by(writer: Writer | None, seen: Reading) -> Callable[[Kept], Sequence[Probe]]:
    """What writes more questions about a memory; nothing without a writer. Asks for leave before the first word.

    Raises Usage for an address that is none, and when it writes StoreFailed, or NotAllowed for a label that stays here.
    """
    if writer is None:
        return lambda memory: ()
    from memos_cli.operation.answer import line_of
    from memos_cli.operation.probes import self_study
    from memos_cli.runtime.endpoint import address_of, open_endpoint

    address = address_of(writer.server.url, flag="--writer-url")
    there = Destination(writer.model, address.host, not address.here, address.here or address.encrypted)
    writer.server.agree(there)
    endpoint = open_endpoint(writer.model, address, key=writer.server.key)
    level = seen.rules.governance.sensitivity
    most = governance.maximum(seen.rules, ENDPOINT, policy=seen.desk.policy)
    seen.facts["answer_host"] = there.host

    def write(memory: Kept) -> Sequence[Probe]:
        there.check(memory.sensitivity or level, hint=SENDABLE, most=most)
        if there.leaves_machine:
            governance.insist(seen.may_leave([memory.id], ENDPOINT, verb="send"), ENDPOINT, hint=SENDABLE)
        line = line_of(memory)
        return self_study(memory.id, line, lambda prompt: endpoint.complete(prompt, limit_tokens=LIMIT_TOKENS).text)

    return write
