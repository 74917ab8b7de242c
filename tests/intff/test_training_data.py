from collections.abc import Callable

import pytest
import torch

from intff import TrainSpec, datasets, training_data
from intff.spec import Digits, read_spec

SpecOf = Callable[..., TrainSpec]
CPU = torch.device("cpu")


def _noisy(seed: int = 0) -> training_data.TrainingData:
    spec = read_spec({"dataset": "digits", "noise": "paper_mixture", "training": {"seed": seed}})
    return training_data.load(spec, CPU)


def test_images_are_bytes_and_labels_class_numbers(digits_spec: SpecOf) -> None:
    data = training_data.load(digits_spec(), CPU)
    assert data.train_images.shape == (1300, 1, 8, 8)
    assert data.validation_images.shape == (137, 1, 8, 8)
    assert data.test_images.shape == (360, 1, 8, 8)
    assert data.train_images.dtype == data.test_images.dtype == torch.uint8
    assert data.train_labels.dtype == data.validation_labels.dtype == data.test_labels.dtype == torch.int64
    assert set(data.train_labels.tolist()) == set(range(10))


def test_only_the_training_images_are_corrupted(digits_spec: SpecOf) -> None:
    clean, noisy = training_data.load(digits_spec(), CPU), _noisy()
    assert len(noisy.train_labels) == 1300 + 433
    assert not torch.equal(noisy.train_images[:1300], clean.train_images)
    assert torch.equal(noisy.train_labels[:1300], clean.train_labels)
    for part in ("validation_images", "validation_labels", "test_images", "test_labels"):
        assert torch.equal(getattr(noisy, part), getattr(clean, part))


@pytest.mark.parametrize("kind", ["paper_mixture", "gaussian", "missing_rows", "pure_noise", "label_noise", "mixture"])
def test_whatever_the_noise_the_same_spec_gives_the_same_bytes_and_only_training_sees_them(kind: str) -> None:
    """With one thread as with two: nothing of it is left to torch."""
    clean, spec = (read_spec({"dataset": "digits", "noise": noise}) for noise in ("none", kind))
    threads, loaded = torch.get_num_threads(), []
    try:
        for number in (1, 2):
            torch.set_num_threads(number)
            loaded.append(vars(training_data.load(spec, CPU)))
    finally:
        torch.set_num_threads(threads)
    untouched = vars(training_data.load(clean, CPU))
    for name, array in untouched.items():
        if isinstance(array, torch.Tensor):
            assert torch.equal(loaded[0][name], loaded[1][name])
            assert name.startswith("train_") or torch.equal(loaded[0][name], array)
    names = ("train_images", "train_labels")
    assert not all(torch.equal(loaded[0][name], untouched[name]) for name in names)


def test_the_seed_decides_the_noise() -> None:
    assert torch.equal(_noisy().train_images, _noisy().train_images)
    assert not torch.equal(_noisy(0).train_images, _noisy(1).train_images)


def test_no_test_image_is_among_those_trained_or_decided_on(digits_spec: SpecOf) -> None:
    data = training_data.load(digits_spec(), CPU)
    published = datasets.load(Digits())
    assert torch.equal(data.test_images, torch.from_numpy(published.test_images))
    both = torch.cat([data.train_images, data.validation_images]).flatten(1)
    files = torch.from_numpy(published.train_images).flatten(1)
    assert sorted(map(tuple, both.tolist())) == sorted(map(tuple, files.tolist()))
