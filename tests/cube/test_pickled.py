"""The guarded reader of pickles: what official MemOS cubes have is read to the bit, and nothing else is read."""

from __future__ import annotations

import io
import os
import pickle
import struct
import types
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np  # noqa: TID253  numbers are compared
import pytest
import torch  # noqa: TID253  the pickles are torch's
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from memos_cli.cube import official_cache, pickled
from memos_cli.errors import Damaged, NotFound
from tests.cube.official_pickles import ITEMS, classes, generation


@pytest.fixture
def theirs(monkeypatch: pytest.MonkeyPatch) -> types.SimpleNamespace:
    return classes(monkeypatch)


def numbers(layers: int, tokens: int, *, dtype: torch.dtype) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Keys and values as MemOS keeps them: not in the order of their bytes."""
    generator = torch.Generator().manual_seed(3)
    shape = (1, tokens, 2, 4)
    return [
        tuple(torch.randn(shape, generator=generator).to(dtype).transpose(1, 2) for _ in range(2))  # type: ignore[misc]
        for _ in range(layers)
    ]


@pytest.mark.parametrize("kind", ["first", "second", "layers"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32], ids=str)
def test_each_generation_is_read_to_the_bit(theirs: Any, kind: str, dtype: torch.dtype) -> None:
    both = numbers(3, 7, dtype=dtype)
    (kept,) = official_cache.decode(generation(kind, theirs, both), place="x")
    assert (kept.id, kept.tokens, len(kept.layers), kept.texts) == ("one", 7, 3, ("seven tokens",))
    for (keys, values), (one, other) in zip(both, kept.layers, strict=True):
        for tensor, read in ((keys, one), (values, other)):
            same = tensor.contiguous()
            expected = same.view(torch.int16).numpy().view("<u2") if dtype == torch.bfloat16 else same.numpy()
            assert read.array.dtype == expected.dtype
            assert np.array_equal(read.array, expected)
    cache = official_cache.prompt_cache(kept, place="x")
    assert cache.tokens == 7
    assert [layer.heads for layer in cache.layers] == [2, 2, 2]
    assert cache.tensors["layers.000.key"].shape == (2, 7, 4)


def test_a_prompt_of_vllm_has_no_numbers(theirs: Any) -> None:
    item = theirs.KVCacheItem(id="one", memory="You know: tea.", metadata={})
    (kept,) = official_cache.decode(pickle.dumps({"kv_cache_memories": {"one": item}}), place="x")
    assert (kept.prompt, kept.layers) == ("You know: tea.", ())
    with pytest.raises(Damaged, match="no keys and values"):
        official_cache.prompt_cache(kept, place="x")


# Hostile pickles.

RAN: list[str] = []


def ran(*words: Any) -> str:
    """What no pickle may call."""
    RAN.append("ran")
    return "ran"


class Calls:
    """Pickles as a call."""

    def __init__(self, call: Callable[..., Any], *words: Any) -> None:
        self.call, self.words = call, words

    def __reduce__(self) -> Any:
        return self.call, self.words


def op(*parts: bytes) -> bytes:
    return b"\x80\x04" + b"".join(parts) + b"."


def text(word: str) -> bytes:
    return b"\x8c" + bytes([len(word)]) + word.encode()


def name(module: str, word: str) -> bytes:
    return text(module) + text(word) + b"\x93"


MEMO_FAR = b"r" + struct.pack("<I", 2**32 - 1)
HOSTILE: dict[str, tuple[bytes, str]] = {
    "a shell": (pickle.dumps(Calls(os.system, "touch ran"), protocol=5), "posix.system"),
    "a shell, old way": (b"cos\nsystem\n(S'touch ran'\ntR.", "opcode MARK|opcode STRING|os.system"),
    "eval": (pickle.dumps(Calls(eval, "1+1"), protocol=5), "builtins.eval"),
    "getattr": (op(name("builtins", "getattr"), b")R"), "builtins.getattr"),
    "a call in a call": (pickle.dumps(Calls(pickle.loads, pickle.dumps(Calls(ran))), protocol=5), "_pickle.loads"),
    "a call in a list in a dict": (pickle.dumps({"kv_cache_memories": [{"a": Calls(ran)}]}), "test_pickled.ran"),
    "a class of torch": (op(name("torch", "load"), b")R"), "torch.load"),
    "a path through a name": (op(name("torch", "hub.load"), b")R"), "torch.hub.load"),
    "a way through a good name": (op(name("datetime", "sys.modules")), "datetime.sys.modules"),
    "this program": (op(name("memos_cli.cube.pickled", "load")), "memos_cli.cube.pickled.load"),
    "a reference outside": (op(b"I1\n", b"Q"), "opcode INT|opcode BINPERSID"),
    "a persistent id": (b"\x80\x04K\x01Q.", "opcode BINPERSID"),
    "a persistent id as text": (b"Pnumber\n.", "opcode PERSID"),
    "an extension": (op(b"\x82\x01"), "opcode EXT1"),
    "a buffer outside": (op(b"\x97"), "opcode NEXT_BUFFER"),
    "an instance, old way": (b"(ios\nsystem\n.", "opcode INST"),
    "an object, old way": (b"(cos\nsystem\no.", "opcode OBJ"),
    "a far place": (op(b"N", MEMO_FAR), "far place"),
    "a huge length": (op(b"\x8e", struct.pack("<Q", 2**60), b"x"), "expected .* bytes|none"),
    "a huge frame": (op(b"\x95", struct.pack("<Q", 2**60), b"N"), "frame of"),
    "fields of a function": (
        op(name("torch._utils", "_rebuild_tensor_v2"), b"}", text("__doc__"), text("x"), b"sb"), "fields of a function",
    ),
    "slots of a function": (
        op(name("torch._utils", "_rebuild_tensor_v2"), b"N}", text("__defaults__"), b")s\x86b"), "fields of a function",
    ),
    "fields of a class": (op(name(ITEMS, "KVCacheItem"), b"}", text("fields"), b"Nsb"), "none"),
    "slots of a class": (op(name(ITEMS, "KVCacheItem"), b"N}", text("fields"), b"Ns\x86b"), "none"),
    "a storage that is none": (op(name("torch.storage", "_load_from_bytes"), b"C\x04abcd\x85R"), "none"),
    "a storage of calls": (
        op(name("torch.storage", "_load_from_bytes"), b"B", struct.pack("<I", len(pickle.dumps(Calls(ran)))),
           pickle.dumps(Calls(ran)), b"\x85R"), "opcode REDUCE",
    ),
    "a tensor of nothing": (op(name("torch._utils", "_rebuild_tensor_v2"), b"(K\x01K\x02K\x03tR"), "none"),
    "cut short": (pickle.dumps({"kv_cache_memories": {}}, protocol=5)[:-4], "none"),
    "more after its end": (pickle.dumps({}) + b"more", "follow its end"),
    "nothing": (b"", "none"),
    "text": (b"{}", "none"),
    "a dict": (pickle.dumps({"a": 1}), "expected kv_cache_memories"),
    "a number": (pickle.dumps(3), "expected kv_cache_memories"),
}  # fmt: skip


@pytest.mark.parametrize("harm", HOSTILE)
def test_a_hostile_pickle_is_refused_and_never_run(harm: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    data, expected = HOSTILE[harm]
    before = {key: dict(vars(value)) for key, value in pickled.NAMES.items() if isinstance(value, type)}
    with pytest.raises(Damaged, match=expected):
        official_cache.decode(data, place="x.pickle")
    assert RAN == []
    assert list(tmp_path.iterdir()) == []
    assert before == {key: dict(vars(value)) for key, value in pickled.NAMES.items() if isinstance(value, type)}


def storage(dtype: str = "BFloat16Storage", count: int = 8, data: bytes | None = None, **wrong: Any) -> bytes:
    """The bytes of a storage as torch saves one, by hand."""

    class Saver(pickle.Pickler):
        def persistent_id(self, value: Any) -> Any:
            return (
                wrong.get("pid", ("storage", getattr(torch, dtype), "7", "cpu", count, None)) if value == "it" else None
            )

    out = io.BytesIO()
    for value in (wrong.get("magic", 0x1950A86A20F9469CFC6C), 1001, {"little_endian": True}):
        pickle.dump(value, out, protocol=2)
    Saver(out, protocol=2).dump("it")
    pickle.dump(wrong.get("keys", ["7"]), out, protocol=2)
    out.write(struct.pack("<q", wrong.get("length", count)))
    out.write(bytes(2 * count) if data is None else data)
    return out.getvalue()


class Tensor:
    """Pickles as a tensor of a storage that was made by hand."""

    def __init__(self, held: bytes, offset: Any = 0, shape: Any = (1, 2, 2, 2), stride: Any = (8, 4, 2, 1)) -> None:
        self.words = (Storage(held), offset, shape, stride, False, OrderedDict())

    def __reduce__(self) -> Any:
        return torch._utils._rebuild_tensor_v2, self.words


class Storage:
    def __init__(self, held: bytes) -> None:
        self.held = held

    def __reduce__(self) -> Any:
        return torch.storage._load_from_bytes, (self.held,)


def test_a_tensor_made_by_hand_is_read() -> None:
    read = pickled.load(pickle.dumps(Tensor(storage()), protocol=5), place="x")
    assert (read.dtype, read.array.shape) == ("BF16", (1, 2, 2, 2))


WRONG: dict[str, Any] = {
    "magic": lambda: Tensor(storage(magic=1)), "keys": lambda: Tensor(storage(keys=["8"])),
    "length": lambda: Tensor(storage(length=9)), "short": lambda: Tensor(storage(data=b"abc")),
    "negative": lambda: Tensor(storage(length=-1)), "other reference": lambda: Tensor(storage(pid=("module", 1))),
    "huge": lambda: Tensor(storage(count=2**40, data=b"")), "past the end": lambda: Tensor(storage(), offset=1),
    "before": lambda: Tensor(storage(), offset=-1), "strides": lambda: Tensor(storage(), stride=(8, 4, 2, 2)),
    "many of one": lambda: Tensor(storage(), shape=(1, 2, 2, 2**20), stride=(0, 0, 0, 0)),
    "empty": lambda: Tensor(storage(), shape=(1, 0, 2, 2)), "no shape": lambda: Tensor(storage(), shape=()),
    "a list as shape": lambda: Tensor(storage(), shape=[1, 2]), "texts": lambda: Tensor(storage(), shape=("1",) * 4),
    "one a hundred times": lambda: [Tensor(held, shape=(1, 2, 2, 1000)) for held in [storage(count=4096)] * 100],
}  # fmt: skip


@pytest.mark.parametrize("harm", WRONG)
def test_numbers_that_do_not_fit_are_refused(harm: str) -> None:
    value = WRONG[harm]()
    if harm == "one a hundred times":
        # all of one storage, so that the file is small
        one = value[0].words[0]
        for tensor in value:
            tensor.words = (one, *tensor.words[1:])
    with pytest.raises(Damaged):
        pickled.load(pickle.dumps(value, protocol=5), place="x")


def test_a_file_that_is_too_large_or_not_there(tmp_path: Path) -> None:
    path = tmp_path / "large.pickle"
    with path.open("wb") as file:
        file.truncate(pickled.MOST_BYTES + 1)
    with pytest.raises(Damaged, match="at most 4 GiB"):
        official_cache.read(path)
    with pytest.raises(NotFound):
        official_cache.read(tmp_path / "none.pickle")


SAMPLE: list[bytes] = []


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cuts=st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), min_size=1, max_size=6), end=st.integers())
def test_mutants_are_read_or_refused(theirs: Any, cuts: list[tuple[int, int]], end: int) -> None:
    if not SAMPLE:
        SAMPLE.append(generation("layers", theirs, numbers(1, 2, dtype=torch.bfloat16)))
    data = bytearray(SAMPLE[0])
    for at, byte in cuts:
        data[at % len(data)] = byte
    if end % 3 == 0:
        del data[end % len(data) :]
    with suppress(Damaged):  # anything else that it raises fails the test
        official_cache.decode(bytes(data), place="x")
    assert RAN == []
