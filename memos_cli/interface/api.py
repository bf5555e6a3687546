"""The Memory API: what the commands call, and what a Python program calls.

    from memos_cli.interface import api
    api.ingest("notes.cube", ["docs/"])
    for hit in api.query("notes.cube", "what is the commit point?").hits:
        print(hit.place, hit.text)

A cube is a path (with a `/` or ending in `.cube`) or a name under the home. Every verb takes `home` (default:
`$MEMOS_HOME`, else `~/.memos`) and `notify`, a callable that hears notices; every verb passes the frame of
`frame.py`, and raises the classes of `memos_cli.errors`.

Each verb's module is imported when the verb is first used: a query does not wait for the parsers of ingest.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from memos_cli.interface.answering import answer, answer_many
    from memos_cli.interface.assembling import export_adapter, fuse, import_adapter, remove_adapter
    from memos_cli.interface.auditing import access_log, checkpoint
    from memos_cli.interface.browsing import index, info, search
    from memos_cli.interface.carrying import carry_out, keep_plan, kept_plan, unfinished_plan
    from memos_cli.interface.changes import forget, gc, init, reindex, tag
    from memos_cli.interface.clients import door_log, list_clients, new_client, revoke_client
    from memos_cli.interface.comparing import tidy
    from memos_cli.interface.converting import convert
    from memos_cli.interface.distilling import distill
    from memos_cli.interface.editing import edit
    from memos_cli.interface.eliciting import elicit
    from memos_cli.interface.engines import Engine
    from memos_cli.interface.exporting import export, import_cache
    from memos_cli.interface.extracting import Extract
    from memos_cli.interface.forgetting import allow_again, purge
    from memos_cli.interface.governing import declassifications, govern
    from memos_cli.interface.http.starting import serve
    from memos_cli.interface.ingestion import ingest
    from memos_cli.interface.installing import install, outdated, require_package
    from memos_cli.interface.judging import Judging
    from memos_cli.interface.looking import audit, cubes, diff, log, memories, memory_log, show, show_memory
    from memos_cli.interface.many import in_vault, over_many, summed
    from memos_cli.interface.mending import doctor
    from memos_cli.interface.migration import migrate
    from memos_cli.interface.moving import rebind, rematerialise
    from memos_cli.interface.outgoing import export_memories
    from memos_cli.interface.packing import pack
    from memos_cli.interface.pulling import pull
    from memos_cli.interface.pushing import push, yank
    from memos_cli.interface.querying import prompts, query, query_many
    from memos_cli.interface.questioning import Writer
    from memos_cli.interface.reader import Reads
    from memos_cli.interface.rebuilding import rebuild, to_rebuild
    from memos_cli.interface.remembering import remember
    from memos_cli.interface.replaying import replay_trace
    from memos_cli.interface.restoring import rollback
    from memos_cli.interface.running import run
    from memos_cli.interface.scheduling import explain, schedule
    from memos_cli.interface.self_testing import self_test
    from memos_cli.interface.sending import Server
    from memos_cli.interface.stores import Travel
    from memos_cli.interface.tables import move_table, trust_table
    from memos_cli.interface.texts import ingest_text
    from memos_cli.interface.tidying import due
    from memos_cli.interface.tracing import trace
    from memos_cli.interface.uniting import fuse_cubes
    from memos_cli.interface.unpacking import export_key, list_keys, new_key, trust_cube, trust_key, unpack
    from memos_cli.interface.vaulting import query_vault
    from memos_cli.interface.watching import watch
    from memos_cli.operation.distill import Gates
    from memos_cli.operation.gate import Limits
    from memos_cli.operation.marking import Marks

_ROOMS = {
    "browsing": ("index", "info", "search"),
    "installing": ("install", "outdated", "require_package"),
    "pulling": ("pull",),
    "pushing": ("push", "yank"),
    "stores": ("Travel",),
    "answering": ("answer", "answer_many"),
    "assembling": ("export_adapter", "fuse", "import_adapter", "remove_adapter"),
    "auditing": ("access_log", "checkpoint"),
    "http.starting": ("serve",),
    "clients": ("door_log", "list_clients", "new_client", "revoke_client"),
    "comparing": ("tidy",),
    "converting": ("Limits", "convert"),
    "distilling": ("Gates", "distill"),
    "eliciting": ("elicit",),
    "exporting": ("export", "import_cache"),
    "engines": ("Engine",),
    "extracting": ("Extract",),
    "editing": ("edit",),
    "governing": ("declassifications", "govern"),
    "changes": ("forget", "gc", "init", "reindex", "tag"),
    "forgetting": ("allow_again", "purge"),
    "ingestion": ("Marks", "ingest"),
    "looking": ("audit", "cubes", "diff", "log", "memories", "memory_log", "show", "show_memory"),
    "many": ("in_vault", "over_many", "summed"),
    "mending": ("doctor",),
    "judging": ("Judging",),
    "migration": ("migrate",),
    "moving": ("rebind", "rematerialise"),
    "outgoing": ("export_memories",),
    "packing": ("pack",),
    "questioning": ("Writer",),
    "reader": ("Reads",),
    "rebuilding": ("rebuild", "to_rebuild"),
    "querying": ("prompts", "query", "query_many"),
    "remembering": ("remember",),
    "restoring": ("rollback",),
    "running": ("run",),
    "carrying": ("carry_out", "keep_plan", "kept_plan", "unfinished_plan"),
    "replaying": ("replay_trace",),
    "scheduling": ("explain", "schedule"),
    "uniting": ("fuse_cubes",),
    "vaulting": ("query_vault",),
    "watching": ("watch",),
    "self_testing": ("self_test",),
    "sending": ("Server",),
    "texts": ("ingest_text",),
    "tables": ("move_table", "trust_table"),
    "tidying": ("due",),
    "tracing": ("trace",),
    "unpacking": ("export_key", "list_keys", "new_key", "trust_cube", "trust_key", "unpack"),
}

__all__ = [
    "Engine",
    "Extract",
    "Gates",
    "Judging",
    "Limits",
    "Marks",
    "Reads",
    "Server",
    "Travel",
    "Writer",
    "access_log",
    "allow_again",
    "answer",
    "answer_many",
    "audit",
    "carry_out",
    "checkpoint",
    "convert",
    "cubes",
    "declassifications",
    "diff",
    "distill",
    "doctor",
    "door_log",
    "due",
    "edit",
    "elicit",
    "explain",
    "export",
    "export_adapter",
    "export_key",
    "export_memories",
    "forget",
    "fuse",
    "fuse_cubes",
    "gc",
    "govern",
    "import_adapter",
    "import_cache",
    "in_vault",
    "index",
    "info",
    "ingest",
    "ingest_text",
    "init",
    "install",
    "keep_plan",
    "kept_plan",
    "list_clients",
    "list_keys",
    "log",
    "memories",
    "memory_log",
    "migrate",
    "move_table",
    "new_client",
    "new_key",
    "outdated",
    "over_many",
    "pack",
    "prompts",
    "pull",
    "purge",
    "push",
    "query",
    "query_many",
    "query_vault",
    "rebind",
    "rebuild",
    "reindex",
    "rematerialise",
    "remember",
    "remove_adapter",
    "replay_trace",
    "require_package",
    "revoke_client",
    "rollback",
    "run",
    "schedule",
    "search",
    "self_test",
    "serve",
    "show",
    "show_memory",
    "summed",
    "tag",
    "tidy",
    "to_rebuild",
    "trace",
    "trust_cube",
    "trust_key",
    "trust_table",
    "unfinished_plan",
    "unpack",
    "watch",
    "yank",
]


def __getattr__(name: str) -> Any:
    for module, verbs in _ROOMS.items():
        if name in verbs:
            return getattr(importlib.import_module(f"memos_cli.interface.{module}"), name)
    raise AttributeError(f"the Memory API has no verb {name!r}")


def __dir__() -> list[str]:
    return __all__
