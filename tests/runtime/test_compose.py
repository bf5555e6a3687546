"""Composition on real tiny models: its two ends are known exactly, and what lies between touches only what it may."""

from __future__ import annotations

import pytest

from memos_cli.errors import Usage
from memos_cli.runtime import kv, sparse
from memos_cli.runtime.compose import MODES, Placed, Recompute, attended, compose, deviations, inject, refusal
from tests.runtime.test_layout import SHIFTABLE, new_model

PARTS = [[(7 * n + 3 * part) % 89 + 5 for n in range(10 + 3 * part)] for part in range(3)]
ALL = [token for part in PARTS for token in part]
QUESTION = [(11 * n) % 83 + 6 for n in range(7)]


def new_long(family: str, *, dtype: str = "float32", attention: str = "sdpa"):  # type: ignore[no-untyped-def]
    """A model whose window, if it has one, takes all of it."""
    more = {"sliding_window": 128} if family == "mistral" else {}
    return new_model(family, dtype=dtype, attention=attention, **more)


@pytest.mark.many(3)
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("family", SHIFTABLE)
def test_reading_all_again_is_the_full_prefill(family: str, attention: str) -> None:
    network = new_long(family, attention=attention)
    segments = [kv.prefill(network, part) for part in PARTS]
    exact = kv.split_prefill(network, ALL, QUESTION)
    for mode in ("full", "blend"):
        made = compose(network, segments, QUESTION, mode=mode, recompute_ratio=1.0)
        assert (made.read.logits - exact.logits).abs().max() < 2e-3 * exact.logits.std(), mode
        assert made.reused + made.recomputed == len(ALL)
        for layer, right in zip(made.read.cache.layers, exact.cache.layers, strict=True):
            assert (layer.keys - right.keys).norm() < 1e-4 * right.keys.norm()
    # and what is written after it is the same
    assert kv.write(network, made.read, limit_tokens=6) == kv.write(network, exact, limit_tokens=6)
    none = compose(network, segments, QUESTION, mode="concat")
    assert (none.read.logits - exact.logits).abs().max() > 0.1 * exact.logits.std(), "otherwise this shows nothing"


def test_reading_all_again_in_bfloat16_is_off_by_its_noise() -> None:
    network = new_long("qwen3", dtype="bfloat16")
    segments = [kv.prefill(network, part) for part in PARTS]
    exact = kv.split_prefill(network, ALL, QUESTION).logits.float()
    once = kv.forward(network, [*ALL, *QUESTION], cache=None, position=0, logits=len(QUESTION)).logits.float()
    made = compose(network, segments, QUESTION, mode="full").read.logits.float()
    noise = (once - exact).norm() / exact.norm()
    assert (made - exact).norm() / exact.norm() <= 3 * noise + 1e-2


HEAD, JOINT = [3, 4, 9, 4], [8, 2]
PROMPT = [*HEAD, *PARTS[0], *JOINT, *PARTS[1], *JOINT, *PARTS[2], *QUESTION]
PLACES = [len(HEAD), len(HEAD) + len(PARTS[0]) + 2, len(HEAD) + len(PARTS[0]) + len(PARTS[1]) + 4]


@pytest.mark.many(3)
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("family", SHIFTABLE)
def test_what_no_memory_holds_is_read_in_the_same_pass(family: str, attention: str) -> None:
    network = new_long(family, attention=attention)
    placed = [Placed(kv.prefill(network, part), at) for part, at in zip(PARTS, PLACES, strict=True)]
    exact = kv.split_prefill(network, PROMPT[: -len(QUESTION)], QUESTION)
    for mode, again in (("full", Recompute()), ("link", Recompute(link_tokens=99)), ("blend", Recompute(ratio=1.0))):
        # all but `full` leave the first memory as it is: here it has seen what stands before it
        seen = [Placed(kv.prefill(network, PARTS[0], context=HEAD), PLACES[0]), *placed[1:]]
        made = inject(network, PROMPT, placed if mode == "full" else seen, mode=mode, again=again)
        assert (made.read.logits - exact.logits).abs().max() < 2e-3 * exact.logits.std(), mode
        assert made.recomputed == len(ALL) - (0 if mode == "full" else len(PARTS[0]))
        assert made.read.position == len(PROMPT)
    assert kv.write(network, made.read, limit_tokens=6) == kv.write(network, exact, limit_tokens=6)
    some = inject(network, PROMPT, seen, mode="blend", again=Recompute(ratio=0.3))
    assert (made.read.logits - exact.logits).norm() < (some.read.logits - exact.logits).norm()


def test_a_memory_read_after_its_context_is_exact_there() -> None:
    network = new_long("qwen3")
    memory = kv.prefill(network, PARTS[1], context=HEAD)
    assert memory.base == len(HEAD)
    prompt = [*HEAD, *PARTS[1], *QUESTION]
    exact = kv.split_prefill(network, prompt[: -len(QUESTION)], QUESTION).logits
    made = inject(network, prompt, [Placed(memory, len(HEAD))], mode="concat").read.logits
    assert (made - exact).abs().max() < 2e-3 * exact.std()
    alone = inject(network, prompt, [Placed(kv.prefill(network, PARTS[1]), len(HEAD))], mode="concat").read.logits
    assert (alone - exact).abs().max() > 0.1 * exact.std()


@pytest.mark.parametrize("family", ["gemma3_text", "mistral"])
def test_one_that_stays_where_it_was_read_needs_no_turning(family: str) -> None:
    network = new_model(family, sliding_window=128)
    memory = kv.prefill(network, PARTS[1], context=HEAD)
    prompt = [*HEAD, *PARTS[1], *QUESTION]
    exact = kv.split_prefill(network, prompt[: -len(QUESTION)], QUESTION).logits
    made = inject(network, prompt, [Placed(memory, len(HEAD))], mode="concat").read.logits
    assert (made - exact).abs().max() < 2e-3 * exact.std()


def test_memories_whose_heads_keep_tokens_of_their_own_stand_in_a_prompt_too() -> None:
    network = new_long("qwen3")
    whole = [kv.prefill(network, PARTS[0], context=HEAD), *(kv.prefill(network, part) for part in PARTS[1:])]
    placed = [Placed(one, at) for one, at in zip(whole, PLACES, strict=True)]
    right = inject(network, PROMPT, placed, mode="concat")
    kept = [Placed(sparse.whole(one.memory), one.at) for one in placed[:2]]
    with attended(network, kept):
        made = inject(network, PROMPT, [*kept, placed[2]], mode="concat")
        assert (made.read.position, made.recomputed, made.reused) == (right.read.position, 0, right.reused)
        # what stands between is read by itself here, and knows nothing of the memories
        assert (made.read.logits - right.read.logits).norm() < 0.5 * right.read.logits.norm()
        kv.write(network, made.read, limit_tokens=4)
    with pytest.raises(Usage, match="joined by concat"):
        inject(network, PROMPT, kept, mode="blend")


def test_a_memory_of_other_tokens_is_refused() -> None:
    network = new_long("qwen3")
    memory = kv.prefill(network, PARTS[0])
    with pytest.raises(Usage, match="other tokens"):
        inject(network, PROMPT, [Placed(memory, PLACES[0] + 1)])
    with pytest.raises(Usage, match="do not overlap"):
        inject(network, PROMPT, [Placed(memory, PLACES[0]), Placed(memory, PLACES[0])])


def test_one_memory_by_itself_is_exact_in_every_mode() -> None:
    network = new_long("llama")
    memory = kv.prefill(network, ALL)
    exact = kv.split_prefill(network, ALL, QUESTION).logits
    for mode in MODES:
        made = compose(network, [memory], QUESTION, mode=mode)
        assert (made.read.logits - exact).abs().max() < 2e-3 * exact.std(), mode
        assert made.recomputed == (len(ALL) if mode == "full" else 0)


def test_no_ratio_and_no_link_are_concat() -> None:
    import torch

    network = new_long("qwen3")
    segments = [kv.prefill(network, part) for part in PARTS]
    plain = compose(network, segments, QUESTION, mode="concat").read.logits
    assert torch.equal(plain, compose(network, segments, QUESTION, mode="blend", recompute_ratio=0).read.logits)
    assert torch.equal(plain, compose(network, segments, QUESTION, mode="link", link_tokens=0).read.logits)


def test_the_first_layer_is_right_and_the_first_memory_everywhere() -> None:
    network = new_long("qwen3")
    segments = [kv.prefill(network, part) for part in PARTS]
    made = compose(network, segments, QUESTION, mode="concat").read.cache
    exact = kv.prefill(network, ALL)
    first = made.layers[0].keys[0, :, : len(ALL)]
    assert (first - exact.keys[0]).norm() / exact.keys[0].norm() < 1e-6
    for layer, right in zip(made.layers, exact.keys, strict=True):
        own = right[:, : len(PARTS[0])]
        assert (layer.keys[0, :, : len(PARTS[0])] - own).norm() < 1e-5 * own.norm()


def test_link_reads_the_first_tokens_of_each_but_the_first() -> None:
    network = new_long("qwen3")
    segments = [kv.prefill(network, part) for part in PARTS]
    made = compose(network, segments, QUESTION, mode="link", link_tokens=4)
    assert (made.recomputed, made.reused) == (8, len(ALL) - 8)
    whole = compose(network, segments, QUESTION, mode="link", link_tokens=999)
    exact = kv.split_prefill(network, ALL, QUESTION).logits
    assert (whole.read.logits - exact).abs().max() < 2e-3 * exact.std()


def test_blend_reads_those_whose_keys_are_off_the_most() -> None:
    import torch

    network = new_long("llama")
    segments = [kv.prefill(network, part) for part in PARTS]
    starts = [0, len(PARTS[0]), len(PARTS[0]) + len(PARTS[1])]
    moved = [kv.shift(network, one, base=start) for one, start in zip(segments, starts, strict=True)]
    found = deviations(network, moved, ALL)
    right = kv.prefill(network, ALL).keys[1][:, len(PARTS[0]) :]
    stored = torch.cat([one.keys[1] for one in moved[1:]], dim=1)
    assert torch.allclose(found, ((right - stored) ** 2).sum(dim=(0, 2)), rtol=1e-3, atol=1e-3)
    made = compose(network, segments, QUESTION, mode="blend", recompute_ratio=0.25)
    assert made.recomputed == round(0.25 * len(found))


def test_parallel_memories_stand_at_the_same_positions() -> None:
    import torch

    network = new_long("qwen3")
    segments = [kv.prefill(network, part) for part in PARTS]
    made = compose(network, segments, QUESTION, mode="parallel")
    assert made.recomputed == 0
    assert made.read.position == max(map(len, PARTS)) + len(QUESTION)
    held = made.read.cache.layers[1].keys[0, :, len(PARTS[0]) : len(PARTS[0]) + len(PARTS[1])]
    assert torch.equal(held, segments[1].keys[1])
    # which memory comes first does not matter then
    turned = compose(network, segments[::-1], QUESTION, mode="parallel").read.logits
    assert torch.allclose(turned, made.read.logits, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("mode", MODES)
def test_memories_stay_as_they_were(mode: str) -> None:
    import torch

    network = new_long("qwen3")
    segments = [kv.prefill(network, part) for part in PARTS]
    before = [one.clone() for segment in segments for one in (*segment.keys, *segment.values)]
    first = kv.write(network, compose(network, segments, QUESTION, mode=mode).read, limit_tokens=4)
    again = kv.write(network, compose(network, segments, QUESTION, mode=mode).read, limit_tokens=4)
    assert first == again
    after = [one for segment in segments for one in (*segment.keys, *segment.values)]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_what_cannot_be_composed_is_refused_with_the_reason() -> None:
    short, mixed = new_model("mistral"), new_model("gemma3_text")
    assert "window" in refusal(short, mode="blend", tokens=40)
    assert refusal(short, mode="blend", tokens=8) == ""
    assert "several types" in refusal(mixed, mode="blend", tokens=8)
    with pytest.raises(Usage, match="12 that a window"):
        compose(short, [kv.prefill(short, part) for part in PARTS], QUESTION)
    network = new_long("qwen3")
    memory = kv.prefill(network, PARTS[0])
    for given in ({"mode": "naive"}, {"recompute_ratio": 1.5}, {"link_tokens": -1}):
        with pytest.raises(Usage, match="expected"):
            compose(network, [memory], QUESTION, **given)  # type: ignore[arg-type]
    with pytest.raises(Usage, match="found none"):
        compose(network, [], QUESTION)
