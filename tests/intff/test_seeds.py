import torch

from intff.seeds import seeded


def _first(seed: int, purpose: str, epoch: int = 0) -> tuple[int, ...]:
    drawn: list[int] = torch.randint(2**62, (4,), generator=seeded(seed, purpose, epoch)).tolist()
    return tuple(drawn)


def test_equal_arguments_give_equal_numbers() -> None:
    assert _first(3, "weights") == _first(3, "weights")
    assert _first(3, "epoch", 2) == _first(3, "epoch", 2)


def test_another_seed_purpose_or_epoch_gives_other_numbers() -> None:
    drawn = {
        _first(seed, purpose, epoch)
        for seed in (0, 1, 2, 2**63 - 1)
        for purpose in ("weights", "epoch")
        for epoch in (0, 1, 2)
    }
    assert len(drawn) == 24


def test_the_numbers_are_the_same_in_every_process() -> None:
    """Pinned, since a resumed run goes on in another process."""
    assert seeded(0, "weights").initial_seed() == 7399459606505694764
