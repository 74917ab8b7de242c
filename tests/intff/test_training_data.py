from collections.abc import Callable

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
