"""The one reader of a pickle in this program: the activation memory of an official MemOS cube, and nothing else.

A pickle is a program, so it is looked at before it runs, and runs in a cage. Looked at: every opcode must be one that
such a file has, lengths must lie in the file, places in the memo must be near, and there is an end to how many there
are. The cage: a name that it calls for is one of NAMES, each of which becomes an inert stand-in of this file that
computes nothing but a view of bytes; any other name is refused before anything is imported. What torch keeps in a
pickle of its own inside is read the same way. Nothing of torch, transformers or MemOS is imported.

Nothing here writes a pickle. Read about: MemOS 0.1 to 2.0.33, transformers 4.53 to 5.23, torch 2.13.
"""

from __future__ import annotations

import io
import math
import pickle  # the guarded exception, see above
import pickletools
import struct
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from memos_cli.errors import Damaged

if TYPE_CHECKING:
    import numpy as np

MOST_BYTES = 4 << 30
MOST_STEPS = 2_000_000
MOST_NUMBERS = 1 << 31
_DTYPES = {"BFloat16Storage": ("BF16", 2), "HalfStorage": ("F16", 2), "FloatStorage": ("F32", 4)}
_NUMPY = {"BF16": "<u2", "F16": "<f2", "F32": "<f4"}
_MAGIC, _PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
# What pickles of data are made of. Not here: INST and OBJ (calls by another way), EXT (a registry), buffers, PERSID.
_STEPS = frozenset({
    "PROTO", "FRAME", "STOP", "MARK", "POP", "POP_MARK", "MEMOIZE", "BINPUT", "LONG_BINPUT", "BINGET", "LONG_BINGET",
    "NONE", "NEWTRUE", "NEWFALSE", "BININT", "BININT1", "BININT2", "LONG1", "LONG4", "BINFLOAT",
    "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8", "SHORT_BINBYTES", "BINBYTES", "BINBYTES8", "SHORT_BINSTRING",
    "BINSTRING", "EMPTY_LIST", "APPEND", "APPENDS", "EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "EMPTY_DICT",
    "SETITEM", "SETITEMS", "EMPTY_SET", "ADDITEMS", "FROZENSET", "GLOBAL", "STACK_GLOBAL", "NEWOBJ", "NEWOBJ_EX",
    "REDUCE", "BUILD",
})  # fmt: skip
# In the pickle of a storage nothing is made and nothing is called.
_INSIDE = (_STEPS | {"BINPERSID"}) - {"NEWOBJ", "NEWOBJ_EX", "REDUCE", "BUILD"}
# What the C unpickler raises on bytes that are no pickle, or one for other classes.
_BROKEN = (
    pickle.UnpicklingError, EOFError, AttributeError, ImportError, IndexError, KeyError, TypeError, ValueError,
    OverflowError, RecursionError, MemoryError, UnicodeDecodeError, struct.error, AssertionError,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Numbers:
    """A tensor: its type as safetensors names it, its shape, and its numbers; BF16 is seen as uint16."""

    dtype: str
    array: np.ndarray


@dataclass(frozen=True, slots=True)
class _Storage:
    """The bytes of a tensor's numbers, and what each is."""

    dtype: str
    data: memoryview


class Inert:
    """An object of a class that is not here: its fields, and nothing that it could do."""

    fields: Mapping[str, Any] = MappingProxyType({})

    def __setstate__(self, state: Any) -> None:
        # pydantic's models keep their fields one level down
        inner = state.get("__dict__", state) if isinstance(state, dict) else None
        if not isinstance(inner, dict) or not all(isinstance(name, str) for name in inner):
            raise pickle.UnpicklingError(f"expected the fields of {type(self).__name__}")
        self.fields = inner


class Item(Inert):
    """A KVCacheItem."""


class Records(Inert):
    """The records of one."""


class Cache(Inert):
    """A DynamicCache."""


class Layer(Inert):
    """A layer of one."""


def _are_counts(values: Sequence[Any]) -> bool:
    return all(type(value) is int and 0 <= value <= MOST_NUMBERS for value in values)


@dataclass(frozen=True, slots=True)
class _Kind:
    """A class of storages, by what it holds."""

    dtype: str
    width: int


@dataclass(frozen=True, slots=True)
class _Reference:
    key: str


_TENSOR, _STORAGE, _DEVICE = "tensor", "storage", "device"
_MEMOS = "memos.memories.activation.item"
_CACHES = "transformers.cache_utils"
# Every name that such a file calls for, and what stands in for it.
NAMES: Mapping[tuple[str, str], Any] = {
    (_MEMOS, "KVCacheItem"): Item,
    (_MEMOS, "KVCacheRecords"): Records,
    (_CACHES, "DynamicCache"): Cache,
    (_CACHES, "DynamicLayer"): Layer,
    ("torch._utils", "_rebuild_tensor_v2"): _TENSOR,
    ("torch.storage", "_load_from_bytes"): _STORAGE,
    ("collections", "OrderedDict"): OrderedDict,
    ("datetime", "datetime"): datetime,
    ("datetime", "timezone"): timezone,
    ("datetime", "timedelta"): timedelta,
    ("torch", "device"): _DEVICE,
    **{("torch", name): name for name in ("bfloat16", "float16", "float32")},
}
_KINDS: Mapping[tuple[str, str], Any] = {("torch", name): _Kind(*kind) for name, kind in _DTYPES.items()}


class _Tool:
    """Something that a pickle may call, and can do nothing else to: BUILD would set a function's fields."""

    __slots__ = ("_run",)

    def __init__(self, run: Callable[..., Any]) -> None:
        self._run = run

    def __call__(self, *words: Any) -> Any:
        return self._run(*words)

    def __setstate__(self, state: Any) -> None:
        raise pickle.UnpicklingError("it sets the fields of a function")


class _Caged(pickle.Unpickler):
    """An unpickler that knows NAMES and no others, and makes no more numbers than its file has room for."""

    def __init__(self, stream: io.BytesIO, *, size: int) -> None:
        super().__init__(stream)
        # keys and values are stored once; a few copies are no harm, a thousand of one are
        self._left = 2 * size
        self._tools = {_TENSOR: _Tool(self._tensor), _STORAGE: _Tool(self._storage), _DEVICE: _Tool(_device)}

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in NAMES:
            raise pickle.UnpicklingError(f"it calls for {module}.{name}, which no activation memory has")
        found = NAMES[module, name]
        return self._tools.get(found, found) if isinstance(found, str) else found

    def persistent_load(self, pid: Any) -> Any:
        raise pickle.UnpicklingError("it refers to something outside of it")

    def _spend(self, size: int) -> None:
        self._left -= size
        if self._left < 0:
            raise pickle.UnpicklingError("it makes more numbers than there is room for in its file")

    def _tensor(self, storage: Any, offset: Any, shape: Any, stride: Any, *_: Any) -> Numbers:
        """A tensor as a copy in its own order. Raises when it reaches past its storage."""
        import numpy as np

        shapes = isinstance(shape, tuple) and isinstance(stride, tuple) and 0 < len(shape) == len(stride) <= 8
        if not isinstance(storage, _Storage) or not shapes or not _are_counts([offset, *shape, *stride]):
            raise pickle.UnpicklingError("expected a storage, and an offset, shape and strides of numbers")
        width = np.dtype(_NUMPY[storage.dtype]).itemsize
        count = math.prod(shape)
        end = offset + sum((size - 1) * step for size, step in zip(shape, stride, strict=True)) + 1
        # a stride of 0 makes many numbers of one
        if not 0 < count * width <= len(storage.data) or end * width > len(storage.data):
            raise pickle.UnpicklingError(f"a tensor of {list(shape)!r:.60} does not lie in its storage")
        self._spend(count * width)
        flat = np.frombuffer(storage.data, dtype=_NUMPY[storage.dtype])
        strides = tuple(step * width for step in stride)
        view = np.lib.stride_tricks.as_strided(flat[offset:], shape=shape, strides=strides, writeable=False)
        return Numbers(storage.dtype, np.ascontiguousarray(view))

    def _storage(self, data: Any) -> _Storage:
        """A storage that torch saved in pickles of its own: magic number, protocol, facts of the machine, the storage
        by reference, its key; then a length and the bytes."""
        if not isinstance(data, bytes):
            raise pickle.UnpicklingError("expected the bytes of a storage")
        self._spend(len(data))
        stream, known = io.BytesIO(data), {}  # type: ignore[var-annotated]
        magic, protocol, _, reference, keys = (_inside(stream, known, size=len(data)) for _ in range(5))
        if (magic, protocol) != (_MAGIC, _PROTOCOL):
            raise pickle.UnpicklingError("expected a storage as torch saves one")
        if not isinstance(reference, _Reference) or keys != [reference.key] or reference.key not in known:
            raise pickle.UnpicklingError("expected one storage by its key")
        kind, count = known[reference.key]
        (length,) = struct.unpack("<q", stream.read(8))
        rest = memoryview(data)[stream.tell() :]
        if length != count or len(rest) != count * kind.width:
            raise pickle.UnpicklingError(f"expected {count} numbers in a storage, found {len(rest)} bytes")
        return _Storage(kind.dtype, rest)


def _device(*_: Any) -> str:
    """Where a tensor lay is only a name."""
    return "device"


class _CagedInside(pickle.Unpickler):
    """The same for the pickles of a storage, which call nothing, and refer to the storage by its key."""

    def __init__(self, stream: io.BytesIO, known: dict[str, tuple[_Kind, int]]) -> None:
        super().__init__(stream)
        self._known = known

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _KINDS:
            raise pickle.UnpicklingError(f"its storage calls for {module}.{name}, which no activation memory has")
        return _KINDS[module, name]

    def persistent_load(self, pid: Any) -> Any:
        whole = isinstance(pid, tuple) and len(pid) == 6 and pid[0] == "storage" and isinstance(pid[1], _Kind)
        if not whole or not isinstance(pid[2], str) or not _are_counts([pid[4]]) or pid[5] is not None:
            raise pickle.UnpicklingError("expected a reference to a storage")
        self._known[pid[2]] = (pid[1], pid[4])
        return _Reference(pid[2])


def _inside(stream: io.BytesIO, known: dict[str, tuple[_Kind, int]], *, size: int) -> Any:
    """The next of several pickles; the stream is left after its end."""
    start = stream.tell()
    _look(stream, _INSIDE, size=size)
    end = stream.tell()
    stream.seek(start)
    value = _CagedInside(stream, known).load()
    stream.seek(end)
    return value


def _look(stream: io.BytesIO, allowed: frozenset[str], *, size: int) -> None:
    """Goes through one pickle without running it; raises for what no activation memory has. Stops after its end."""
    for steps, (step, argument, _) in enumerate(pickletools.genops(stream), start=1):
        if step.name not in allowed:
            raise pickle.UnpicklingError(f"it has the opcode {step.name}, which no activation memory has")
        # the memo is an array: one far place would take all memory
        number = argument if isinstance(argument, int) else 0
        if step.name in ("BINPUT", "LONG_BINPUT") and number > steps:
            raise pickle.UnpicklingError(f"it keeps something at the far place {number}")
        # allotted before it is read
        if step.name == "FRAME" and number > size:
            raise pickle.UnpicklingError(f"it has a frame of {number} bytes and is {size} bytes long")
        if steps > MOST_STEPS:
            raise pickle.UnpicklingError(f"it has more than {MOST_STEPS:,} steps")


def load(data: bytes, *, place: str) -> Any:
    """What a pickle of an activation memory holds: plain values, Numbers, and Inert objects.

    Raises Damaged, naming `place` and what was found, for any other pickle and for bytes that are none.
    """
    if len(data) > MOST_BYTES:
        raise Damaged(
            f"{place}: expected at most {MOST_BYTES >> 30} GiB of activation memory, found {len(data):,} bytes"
        )
    stream = io.BytesIO(data)
    try:
        _look(stream, _STEPS, size=len(data))
        if stream.tell() != len(data):
            raise pickle.UnpicklingError(f"{len(data) - stream.tell()} bytes follow its end")
        stream.seek(0)
        return _Caged(stream, size=len(data)).load()
    except _BROKEN as error:
        reason = str(error) or type(error).__name__
        raise Damaged(
            f"{place}: expected the activation memory of a MemOS cube, found a pickle that is none: {reason[:200]}",
            hint="nothing of it was run; leave the file out, or get the cube from whom you trust",
        ) from error
