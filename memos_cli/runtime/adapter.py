"""LoRA on a running network: one to be trained, or a chain of stored ones, put in and taken out again.

The numbers of an adapter are beside those of the base, never in them: merged in bfloat16 and taken out again, a base is
another one. So the base is bit for bit what it was when its adapters are off, and when they are gone. Knows nothing of
cubes and of training.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, NoReturn, Self

from memos_cli.errors import Damaged, Usage, WrongModel
from memos_cli.runtime.adapter_files import Plain, read_plain, write_plain

if TYPE_CHECKING:
    import torch

TRAINED = "default"
# Modules of the feed-forward part, by the last part of their names; facts are stored there.
FEED_FORWARD = frozenset(
    {
        "gate_proj", "up_proj", "down_proj", "gate_up_proj", "fc1", "fc2", "dense_h_to_4h", "dense_4h_to_h", "fc_in",
        "fc_out", "c_fc", "c_proj",
    }
)  # fmt: skip
_PROBE_TOKENS = 16


@dataclass(slots=True)
class Adapted:
    """A network with adapters in its layers: the same object as before, that computes with them until `close`.

    `names` are those of its adapters, the lowest first; `trained` is the one that may be changed, "" for none.
    """

    network: Any
    names: tuple[str, ...]
    trained: str
    plain: Plain
    _lora: Any = field(repr=False)
    _before: _Before = field(repr=False)
    _closed: bool = field(default=False, repr=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Takes the adapters out: every module, setting and number of the network is as it was. Once is enough."""
        # a second time it would take out those that were put on since
        if not self._closed:
            self._closed = True
            self._before.restore(self.network)

    def parameters(self) -> list[torch.Tensor]:
        """What is to be trained, in the order of the network's modules: float32, [rank, in] and [out, rank]."""
        return [
            getattr(layer, half)[self.trained].weight
            for layer in self._layers()
            for half in ("lora_A", "lora_B")
            if self.trained in getattr(layer, half)
        ]

    @contextmanager
    def off(self) -> Iterator[None]:
        """The network without any adapter, while it lasts."""
        self._use(())
        try:
            yield
        finally:
            self._use(self.names)

    @contextmanager
    def beneath(self) -> Iterator[None]:
        """The network without the adapter that is trained, while it lasts: with those it stands on."""
        self._use(tuple(name for name in self.names if name != self.trained))
        try:
            yield
        finally:
            self._use(self.names)

    def _use(self, names: Sequence[str]) -> None:
        if names:
            self._lora.enable_adapter_layers()
            self._lora.set_adapter(list(names))
        else:
            self._lora.disable_adapter_layers()
        # peft makes what it switches on trainable
        for layer in self._layers():
            for half in (layer.lora_A, layer.lora_B):
                for name, linear in half.items():
                    linear.weight.requires_grad_(name == self.trained)

    def _layers(self) -> list[Any]:
        return [module for module in self.network.modules() if hasattr(module, "lora_A")]


@dataclass(frozen=True, slots=True)
class _Before:
    """What a network was like: its modules that adapters wrap, and which of its parameters were trainable."""

    modules: dict[str, Any]
    trainable: dict[str, bool]

    @classmethod
    def of(cls, network: Any, paths: Sequence[str]) -> _Before:
        modules = {path: network.get_submodule(path) for path in paths}
        return cls(modules, {name: one.requires_grad for name, one in network.named_parameters()})

    def restore(self, network: Any) -> None:
        for path, module in self.modules.items():
            parent, _, name = path.rpartition(".")
            setattr(network.get_submodule(parent), name, module)
        for name, one in network.named_parameters():
            one.requires_grad_(self.trainable[name])
        if hasattr(network, "peft_config"):
            del network.peft_config


def targets_of(network: Any) -> tuple[str, ...]:
    """The names of the feed-forward modules of a network's layers, as a LoRA targets them.

    Raises Usage for one that has none that a plain LoRA can be put on, such as one of experts.
    """
    linear = linear_modules(network)
    # attention may have modules of the same names
    found = {path for path in linear if _end(path) in FEED_FORWARD and "att" not in _end(path, 2)}
    others = linear.keys() - found
    names = {_end(path, 2 if any(_end(other) == _end(path) for other in others) else 1) for path in found}
    experts = any("expert" in name for name, _ in network.named_modules())
    if not names or experts:
        word = "experts" if experts else "no feed-forward layers that are known"
        raise Usage(f"expected a network to put a plain LoRA on, found {word} in {type(network).__name__}")
    return tuple(sorted(names))


def _end(path: str, parts: int = 1) -> str:
    return ".".join(path.split(".")[-parts:])


def linear_modules(network: Any) -> dict[str, tuple[int, int]]:
    """Inputs and outputs of every module that a plain LoRA can be put on, by path."""
    from torch.nn import Linear
    from transformers.pytorch_utils import Conv1D

    found: dict[str, tuple[int, int]] = {}
    for path, module in network.named_modules():
        if isinstance(module, Linear):
            found[path] = (module.in_features, module.out_features)
        elif isinstance(module, Conv1D):
            found[path] = (int(module.weight.shape[0]), int(module.weight.shape[1]))
    return found


def modules_for(network: Any, targets: Sequence[str]) -> tuple[str, ...]:
    """The paths of the modules that these names mean in a network, in its order."""
    named, ends = frozenset(targets), tuple(f".{target}" for target in targets)
    return tuple(path for path in linear_modules(network) if path in named or path.endswith(ends))


def fresh(
    network: Any,
    *,
    rank: int = 8,
    alpha: float | None = None,
    targets: Sequence[str] | None = None,
    seed: int = 0,
    beneath: Sequence[Path] = (),
) -> Adapted:
    """A new LoRA in float32 on a network, which it changes nothing of until it is trained; to be trained.

    `alpha` is twice the rank by default, `targets` the feed-forward modules; equal seeds give equal numbers. The
    adapters in the folders `beneath` are put in first, from the lowest, and stay as they are. Raises as `attach`.
    """
    import torch

    _check_bare(network)
    names = tuple(targets) if targets is not None else targets_of(network)
    if rank < 1:
        raise Usage(f"a rank is at least 1, found {rank}")
    modules = modules_for(network, names)
    if not modules:
        raise Usage(f"expected modules of {type(network).__name__} named {', '.join(names)[:120]}, found none")
    scale = float(alpha if alpha is not None else 2 * rank)
    plain = Plain(rank, scale, names, {}, _are_transposed(network, modules))
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return _adapt(network, [*_read(beneath), (TRAINED, plain)], trained=TRAINED)


def attach(network: Any, folders: Sequence[Path]) -> Adapted:
    """A network with the adapters in `folders` active and frozen, from the lowest on; use it as a context.

    Raises Usage when it carries some already or a folder is there twice, WrongModel for an adapter of other modules or
    shapes, Damaged for one that lacks weights or has more than its config says, NotFound.
    """
    if not folders:
        raise Usage("expected adapters to put on the network, found none")
    return _adapt(network, _read(folders), trained="")


def save(adapted: Adapted, folder: Path, *, base: str, dtype: str = "float32") -> None:
    """The adapter that was trained as plain files in `folder`; `base` is what its config calls the model."""
    if not adapted.trained:
        raise Usage("expected an adapter that is trained, found only such as are in use")
    pairs = {
        path: (layer.lora_A[adapted.trained].weight, layer.lora_B[adapted.trained].weight)
        for path, layer in adapted.network.named_modules()
        if hasattr(layer, "lora_A") and adapted.trained in layer.lora_A
    }
    plain = adapted.plain
    write_plain(folder, Plain(plain.rank, plain.alpha, plain.targets, pairs, plain.transposed), base=base, dtype=dtype)


def differs(adapted: Adapted, ids: Sequence[int] | None = None) -> float:
    """The largest difference of any logit with and without the adapters, on some tokens; 0 says they do nothing."""
    import torch

    network = adapted.network
    if ids is None:
        size = network.config.get_text_config(decoder=True).vocab_size
        ids = range(0, size, max(1, size // _PROBE_TOKENS))[:_PROBE_TOKENS]
    tokens = torch.tensor([list(ids)], device=network.device)
    with torch.no_grad():
        on = network(input_ids=tokens).logits.float()
        with adapted.off():
            off = network(input_ids=tokens).logits.float()
    return float((on - off).abs().max())


def _read(folders: Sequence[Path]) -> list[tuple[str, Plain]]:
    places = [folder.resolve() for folder in folders]
    if len(set(places)) != len(places):
        raise Usage(f"each adapter is put on once, found {len(places) - len(set(places))} of {len(places)} again")
    return [(f"beneath_{number}", read_plain(folder)) for number, folder in enumerate(folders)]


def _adapt(network: Any, adapters: Sequence[tuple[str, Plain]], *, trained: str) -> Adapted:
    _check_bare(network)
    placed = []
    for name, plain in adapters:
        if name != trained:
            _check_fits(network, plain)
        modules = modules_for(network, plain.targets)
        placed.append(_Placed(name, plain, modules, _are_transposed(network, modules)))
    before = _Before.of(network, sorted({path for one in placed for path in one.modules}))
    try:
        lora = _inject(network, placed)
        adapted = Adapted(network, tuple(one.name for one in placed), trained, placed[-1].plain, lora, before)
        adapted._use(adapted.names)
    except BaseException:
        before.restore(network)
        raise
    return adapted


def _check_bare(network: Any) -> None:
    """peft would nest a second wrapping, or keep the numbers of an adapter that has the same name."""
    if hasattr(network, "peft_config") or any(hasattr(module, "lora_A") for module in network.modules()):
        raise Usage(f"{type(network).__name__} carries adapters already; take them off first: close()")


@dataclass(frozen=True, slots=True)
class _Placed:
    """An adapter under the name it has on the network, and the modules it is put on."""

    name: str
    plain: Plain
    modules: tuple[str, ...]
    transposed: bool


def _check_fits(network: Any, plain: Plain) -> None:
    """Whether the weights are those of just the modules that the config means in this network."""
    linear, kind = linear_modules(network), type(network).__name__
    for module, (a, b) in plain.pairs.items():
        if module not in linear:
            raise WrongModel(f"the adapter has weights of {module[:120]}, this {kind} has no such module")
        if (a.shape[1], b.shape[0]) != linear[module]:
            made, here = f"{a.shape[1]} to {b.shape[0]}", "{} to {}".format(*linear[module])
            raise WrongModel(f"the adapter was made for a {module} of {made} numbers, in this {kind} it is {here}")
    expected = set(modules_for(network, plain.targets))
    if missing := sorted(expected - plain.pairs.keys()):
        raise Damaged(f"the adapter lacks weights of {missing[0]}, which its config names ({len(missing)} such)")
    if extra := sorted(plain.pairs.keys() - expected):
        raise Damaged(f"the adapter has weights of {extra[0]}, which its config does not name ({len(extra)} such)")


def _inject(network: Any, placed: Sequence[_Placed]) -> Any:
    """peft's own layers around the modules, with the numbers of each adapter that has any."""
    import torch
    from peft import LoraModel

    lora: Any = None
    for one in placed:
        if lora is None:
            lora = LoraModel(network, _config(one), one.name)
        else:
            lora.peft_config[one.name] = _config(one)
            lora.inject_adapter(network, one.name)
        with torch.no_grad():
            for path, (a, b) in one.plain.pairs.items():
                layer = network.get_submodule(path)
                layer.lora_A[one.name].weight.copy_(a)
                layer.lora_B[one.name].weight.copy_(b)
    for module in network.modules():
        if hasattr(module, "lora_A"):
            module.merge = _refuse_merge
    return lora


def _config(one: _Placed) -> Any:
    """Nothing of a file goes into it but numbers; modules are named by their whole paths."""
    from peft import LoraConfig

    # peft says a whole number, and only divides it
    alpha: Any = one.plain.alpha
    return LoraConfig(
        r=one.plain.rank, lora_alpha=alpha, target_modules=list(one.modules), fan_in_fan_out=one.transposed,
        task_type="CAUSAL_LM",
    )  # fmt: skip


def _refuse_merge(*_: Any, **__: Any) -> NoReturn:
    raise Usage(
        "adapters are not merged into a base: taken out again, it would be another one",
        hint="use the adapter beside it, or memos distill CUBE --fuse A --fuse B to make one of several",
    )


def _are_transposed(network: Any, modules: Sequence[str]) -> bool:
    """Whether the weights of these modules lie as [in, out], as in GPT-2."""
    from transformers.pytorch_utils import Conv1D

    return any(isinstance(network.get_submodule(path), Conv1D) for path in modules)
