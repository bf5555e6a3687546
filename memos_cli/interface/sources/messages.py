"""Chats as the programs of the day write them, brought to one form: conversations of messages.

Knows ChatGPT and Claude exports, OpenAI messages, ShareGPT, and any JSON whose messages have a speaker and a text under
one of the usual names. Knows nothing of files.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from memos_cli.interface.sources.dates import parse_time

Record = dict[str, Any]

SPEAKERS = ("speaker", "name", "author", "from", "sender", "user", "role")
TEXTS = ("text", "content", "message", "value", "body")
SESSIONS = ("session", "session_id", "conversation_id", "thread", "thread_id")
TIMES = ("time", "timestamp", "ts", "date", "datetime", "date_time", "created_at", "create_time")
REFS = ("id", "ref", "dia_id", "message_id", "uuid")
CAPTIONS = ("caption", "blip_caption")
LISTS = (
    "messages",
    "turns",
    "dialogue",
    "dialog",
    "conversation",
    "chat",
    "chat_messages",
    "utterances",
    "conversations",
)
GROUPS = ("sessions", "conversations", "chats", "threads")
TITLES = ("title", "name", "topic", "subject")
ROLES = {
    **dict.fromkeys(("user", "human", "prompter"), "user"),
    **dict.fromkeys(("assistant", "gpt", "bot", "ai", "model", "chatgpt"), "assistant"),
    **{role: role for role in ("system", "developer", "tool", "function")},
}


@dataclass(frozen=True, slots=True)
class Message:
    """What one speaker said at one time. `session` is '' when the message does not name one."""

    speaker: str
    role: str
    text: str
    ref: str = ""
    time: datetime | None = None
    session: str = ""


@dataclass(frozen=True, slots=True)
class Conversation:
    """Messages that belong together; `session` is the source's id of it, '' when there is none."""

    session: str
    title: str
    time: datetime | None
    messages: Iterable[Message]


def shape(value: Any) -> str:
    """The chat format that a JSON value is in, '' for none."""
    if isinstance(value, list):
        return "chat" if value and all(isinstance(item, dict) and is_message(item) for item in value[:5]) else ""
    if not isinstance(value, dict):
        return ""
    if isinstance(value.get("mapping"), dict) and ("current_node" in value or _has_nodes(value["mapping"])):
        return "chatgpt-export"
    if isinstance(value.get("chat_messages"), list):
        return "claude-export"
    if _is_list_of(value.get("messages"), {"role", "content"}):
        return "openai-messages"
    if _is_list_of(value.get("conversations"), {"from", "value"}):
        return "sharegpt"
    return "chat" if is_message(value) or _lists(value) or _groups(value) else ""


def is_message(record: Record) -> bool:
    """Whether a record has a speaker and a text that can hardly be anything else.

    A `name` or `author` with a text could be any record, so it takes a session, a time or an id of its own as well.
    """
    text = _first(record, TEXTS)
    if not isinstance(text, str | list) and _first(record, CAPTIONS) is None and not record.get("tool_calls"):
        return False
    if any(isinstance(record.get(key), str) for key in ("speaker", "role", "sender")):
        return True
    weak = any(isinstance(record.get(key), str) for key in ("name", "author", "from", "user"))
    told = any(record.get(key) is not None for key in SESSIONS + TIMES)
    return weak and told and set(record).isdisjoint(("title", "url", "email"))


def as_message(record: Record) -> Message | None:
    """The message a record holds, or None."""
    role = record.get("role")
    author = record.get("author")
    if isinstance(author, dict):
        role = role or author.get("role")
        author = author.get("name")
        record = {**record, "author": author}
    speaker = _first(record, SPEAKERS) or role
    if not isinstance(speaker, str) or not speaker.strip():
        return None
    known = ROLES.get(str(role or speaker).strip().lower(), "")
    return Message(
        speaker=ROLES.get(speaker.strip().lower(), speaker.strip()),
        role=known or (str(role) if role else ""),
        text=text_of(record),
        ref=_word(record, REFS),
        time=parse_time(_first(record, TIMES)),
        session=_word(record, SESSIONS),
    )


def text_of(record: Record) -> str:
    """What was said, with captions of shared pictures and calls of tools in brackets after it."""
    parts = [_plain(_first(record, TEXTS))]
    parts += [f"[shares a photo: {caption}]" for caption in _captions(record)]
    calls = record.get("tool_calls")
    for call in calls if isinstance(calls, list) else []:
        function = call.get("function") if isinstance(call, dict) else None
        if isinstance(function, dict):
            parts.append(f"[calls {function.get('name', 'a tool')}: {function.get('arguments', '')}]")
    return " ".join(part for part in parts if part)


def _captions(record: Record) -> list[str]:
    found = _first(record, CAPTIONS)
    captions = found if isinstance(found, list) else [found]
    return [caption.strip() for caption in captions if isinstance(caption, str) and caption.strip()]


def _plain(content: Any) -> str:
    """The words of a content: a string, a list of parts, or an object that holds one of these."""
    if isinstance(content, str):
        return content.strip()
    if isinstance(content, dict):
        return _plain(content.get("parts") or content.get("text"))
    if isinstance(content, list):
        # Telegram cuts one text at its links: words as strings, links as objects, spaces included.
        if {type(part) for part in content} == {str, dict}:
            return "".join(part if isinstance(part, str) else str(part.get("text") or "") for part in content).strip()
        return "\n".join(text for part in content if (text := _plain(part)))
    return ""


def _first(record: Record, names: tuple[str, ...]) -> Any:
    """The value under the first of the names that has one."""
    for name in names:
        if name in record and (value := record[name]) is not None and value != "":
            return value
    return None


def _word(record: Record, names: tuple[str, ...]) -> str:
    value = _first(record, names)
    return str(value) if isinstance(value, str | int) else ""


def _is_list_of(value: Any, keys: set[str]) -> bool:
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(item, dict) and keys <= set(item) for item in value[:5])
    )


def _has_nodes(mapping: Record) -> bool:
    node = next(iter(mapping.values()), None)
    return isinstance(node, dict) and {"message", "children"} <= set(node)


def _lists(record: Record) -> list[Record]:
    """The messages in a container, [] when it is none."""
    for name in LISTS:
        found = record.get(name)
        if isinstance(found, list) and found and isinstance(found[0], dict) and _loose(found[0]):
            return [item for item in found if isinstance(item, dict)]
    return []


def _loose(record: Record) -> bool:
    # Inside a list called 'messages' a speaker and a text are enough.
    return _first(record, SPEAKERS) is not None and (
        isinstance(_first(record, TEXTS), str | list | dict) or bool(_captions(record) or record.get("tool_calls"))
    )


def _groups(record: Record) -> list[Any]:
    """The conversations in a container of conversations, [] when it is none."""
    for name in GROUPS:
        found = record.get(name)
        if isinstance(found, list) and found and shape(found[0]):
            return found
    return []


def conversations(value: Any) -> Iterator[Conversation]:
    """The conversations of a JSON value in one of the chat formats; none when it is in none of them."""
    if isinstance(value, list):
        yield Conversation("", "", None, _messages(value))
        return
    if not isinstance(value, dict):
        return
    if isinstance(value.get("mapping"), dict):
        yield _container(value, _messages(_branch(value)))
    elif found := value.get("chat_messages") or _lists(value):
        yield _container(value, _messages(found))
    else:
        for group in _groups(value):
            yield from conversations(group)


def left_behind(value: Any) -> Counter[tuple[str, str, str]]:
    """What an export has and its conversations have not: how often, by kind, field and reason."""
    left: Counter[tuple[str, str, str]] = Counter()
    if not isinstance(value, dict):
        return left
    if isinstance(mapping := value.get("mapping"), dict):
        nodes = [node.get("message") for node in mapping.values() if isinstance(node, dict)]
        every = [message for message in nodes if isinstance(message, dict)]
        shown = [message for message in every if _is_shown(message)]
        left["message", "mapping", "of a branch that was not seen last"] = len(shown) - len(_branch(value))
        left["message", "content", "hidden in the conversation"] = len(every) - len(shown)
        every = shown
    else:
        found = value.get("chat_messages")
        every = [message for message in found if isinstance(message, dict)] if isinstance(found, list) else []
    for message in every:
        for name in ("attachments", "files", "files_v2"):
            held = message.get(name) or (message.get("metadata") or {}).get(name)
            left["message", name, "files are not in the conversation"] += len(held) if isinstance(held, list) else 0
    return +left


def _container(value: Record, found: Iterable[Message]) -> Conversation:
    return Conversation(
        session=_word(value, SESSIONS) or _word(value, REFS),
        title=_word(value, TITLES).strip(),
        time=parse_time(_first(value, TIMES)),
        messages=found,
    )


def _messages(records: Iterable[Any]) -> Iterator[Message]:
    for record in records:
        if isinstance(record, dict) and (message := as_message(record)):
            yield message


def _branch(export: Record) -> list[Record]:
    """The messages a ChatGPT user last saw: from `current_node` up to the root, oldest first."""
    mapping = export["mapping"]
    node = export.get("current_node") or _last_leaf(mapping)
    path: list[Record] = []
    seen: set[str] = set()
    while isinstance(node, str) and node in mapping and node not in seen and isinstance(mapping[node], dict):
        seen.add(node)
        message = mapping[node].get("message")
        if isinstance(message, dict) and _is_shown(message):
            path.append(message)
        node = mapping[node].get("parent")
    return path[::-1]


def _last_leaf(mapping: Record) -> str | None:
    leaves = [key for key, node in mapping.items() if isinstance(node, dict) and not node.get("children")]
    return leaves[-1] if leaves else None


def _is_shown(message: Record) -> bool:
    metadata = message.get("metadata")
    if isinstance(metadata, dict) and metadata.get("is_visually_hidden_from_conversation"):
        return False
    content = message.get("content")
    kind = content.get("content_type") if isinstance(content, dict) else None
    return kind not in ("user_editable_context", "model_editable_context", "thoughts", "reasoning_recap")
