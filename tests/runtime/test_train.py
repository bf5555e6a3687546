"""Training: divergence, draws and checkpoints, on a tiny network."""

from itertools import chain, repeat
from pathlib import Path

import pytest

from memos_cli.runtime import adapter, train
from memos_cli.runtime.train import Lessons, Recipe, Training, Turn, chances, divergence, target_of
from tests.runtime.decoders import new_llama

TURNS = [Turn((5, 6, 7), (8, 9)), Turn((10, 11), (12,)), Turn((13, 14, 15, 16), (17, 18, 19))]


@pytest.fixture(name="network")
def _network() -> object:
    import torch

    torch.manual_seed(0)
    return new_llama(64).eval()


def test_rows_are_those_of_each_turn_by_itself(network) -> None:
    import torch

    together = list(chances(network, TURNS))
    for turn, rows in zip(TURNS, together, strict=True):
        (alone,) = chances(network, [turn])
        assert rows.shape == (len(turn.answer), network.config.vocab_size)
        assert torch.allclose(rows, alone, atol=1e-5)


def test_groups_are_as_large_as_their_logits_have_room_for(network, monkeypatch) -> None:
    import torch

    whole = [rows.clone() for rows in chances(network, TURNS)]
    monkeypatch.setattr(train, "MOST_LOGITS", 1)
    for one, other in zip(whole, chances(network, TURNS), strict=True):
        assert torch.allclose(one, other, atol=1e-5)


def test_a_divergence_is_none_from_itself_and_never_below_nothing(network) -> None:
    import torch

    (rows,) = chances(network, TURNS[:1])
    target = target_of(TURNS[0], rows)
    assert divergence(target, rows).abs().max() < 1e-5
    other = torch.randn_like(rows).log_softmax(-1)
    assert (divergence(target, other) > 0).all()


def test_a_divergence_over_all_tokens_is_the_exact_one(network, monkeypatch) -> None:
    import torch

    monkeypatch.setattr(train, "TOP_K", 10_000)
    (rows,) = chances(network, TURNS[:1])
    other = torch.randn_like(rows).log_softmax(-1)
    exact = (rows.exp() * (rows - other)).sum(-1)
    assert torch.allclose(divergence(target_of(TURNS[0], rows), other), exact, atol=1e-4)


def test_known_needs_every_token_above_one_half() -> None:
    import torch

    rows = torch.tensor([[0.6, 0.3, 0.1], [0.45, 0.3, 0.25]]).log()
    assert train.known(rows[:1], [0])
    assert not train.known(rows, [0, 0])
    assert train.greedy(rows, [0, 0])
    assert not train.greedy(rows, [0, 1])


def lessons_of(network) -> Lessons:
    turned = [Turn(turn.answer, turn.prompt) for turn in TURNS]
    rows = chances(network, turned)
    kept = [target_of(turn, row) for turn, row in zip(turned, rows, strict=True)]
    return Lessons([sure_of(turn, network.config.vocab_size) for turn in TURNS], neighbours=kept)


def sure_of(turn: Turn, size: int) -> train.Target:
    """A teacher that finds nothing else likely."""
    import torch

    return target_of(turn, torch.eye(size)[list(turn.answer)].clamp_min(1e-6).log())


def test_what_is_taught_is_known_afterwards_and_the_base_is_as_it_was(network) -> None:
    import torch

    before = [rows.clone() for rows in chances(network, TURNS)]
    recipe = Recipe(rank=4, rate=0.02, steps=80, batch=3, locality=0.1)
    with adapter.fresh(network, rank=4) as adapted:
        training = Training(network, lessons_of(network), recipe)
        done = training.run(lambda: 0.0, enough=2.0)
        assert all(train.greedy(rows, turn.answer) for rows, turn in zip(chances(network, TURNS), TURNS, strict=True))
        with adapted.off():
            assert all(torch.equal(*pair) for pair in zip(before, chances(network, TURNS), strict=True))
    assert done.steps == 80
    assert done.stopped == "all steps done"
    assert all(torch.equal(*pair) for pair in zip(before, chances(network, TURNS), strict=True))


@pytest.mark.long
def test_what_lies_beneath_is_held_while_something_else_is_learned(network) -> None:
    held = sure_of(Turn((30, 31), (32, 33)), network.config.vocab_size)
    answered = []
    for beneath in ((), (held,)):
        with adapter.fresh(network, rank=4):
            lessons = Lessons(lessons_of(network).taught, beneath=beneath)
            Training(network, lessons, Recipe(rank=4, rate=0.02, steps=80, batch=4)).run(lambda: 0.0, enough=2.0)
            (rows,) = chances(network, [held.turn])
            answered.append(train.greedy(rows, held.turn.answer))
    assert answered == [False, True]


@pytest.mark.long
def test_it_stops_when_enough_is_known_twice_in_a_row(network) -> None:
    shares = chain([1.0, 0.5, 1.0, 1.0], repeat(0.0))
    with adapter.fresh(network, rank=2):
        done = Training(network, lessons_of(network), Recipe(steps=200, look_steps=2, batch=2)).run(
            lambda: next(shares), enough=0.95
        )
    assert done.steps == 8 + train.COOL_STEPS
    assert "95%" in done.stopped


def test_an_interrupted_training_ends_as_one_that_was_not(network, tmp_path: Path) -> None:
    import torch

    recipe = Recipe(rank=2, steps=12, look_steps=4, batch=2)

    def run(folder: Path, *, most: int | None = None) -> tuple[int, dict]:
        with adapter.fresh(network, rank=2, seed=1):
            training = Training(network, lessons_of(network), recipe, folder)
            training.restore()
            begun = training.step
            training.run(lambda: 0.0, enough=2.0, most=most)
            return begun, {name: one.detach().clone() for name, one in training._named()}

    _, whole = run(tmp_path / "whole")
    run(tmp_path / "cut", most=8)
    begun, resumed = run(tmp_path / "cut")
    assert begun == 8
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


@pytest.mark.parametrize("damage", [b"", b"{}", b"\x00" * 100])
def test_a_checkpoint_that_does_not_read_is_begun_anew(network, tmp_path: Path, damage: bytes) -> None:
    (tmp_path / train.STATE).write_bytes(damage)
    with adapter.fresh(network, rank=2):
        training = Training(network, lessons_of(network), Recipe(steps=2, batch=2), tmp_path)
        assert not training.restore()
        assert training.step == 0
