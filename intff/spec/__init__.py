"""The training spec, which defines a run. It is plain data without torch; everything else is built from it."""

from intff.spec.algorithm import (
    BP,
    FF,
    Embedding,
    GaussianNoise,
    Groups,
    HardLabel,
    Hybrid,
    IntFF,
    NoisyCopy,
    Overlay,
    RandomLabel,
    Rotated,
    WrongLabel,
)
from intff.spec.architecture import Layers
from intff.spec.dataset import Digits, FashionMnist, Kmnist, Mnist
from intff.spec.layers import Attention, Conv, MaxPool
from intff.spec.limits import BYTES_PER_PARAMETER, Limits, Size, require_within, size_of
from intff.spec.noise import (
    Gaussian,
    LabelNoise,
    MissingRows,
    Mixture,
    NoNoise,
    PaperMixture,
    Proportions,
    PureNoise,
)
from intff.spec.problems import Problem, problem, read_spec
from intff.spec.train import TrainSpec
from intff.spec.training import EarlyStopping, Training

__all__ = [
    "BP",
    "BYTES_PER_PARAMETER",
    "FF",
    "Attention",
    "Conv",
    "Digits",
    "EarlyStopping",
    "Embedding",
    "FashionMnist",
    "Gaussian",
    "GaussianNoise",
    "Groups",
    "HardLabel",
    "Hybrid",
    "IntFF",
    "Kmnist",
    "LabelNoise",
    "Layers",
    "Limits",
    "MaxPool",
    "MissingRows",
    "Mixture",
    "Mnist",
    "NoNoise",
    "NoisyCopy",
    "Overlay",
    "PaperMixture",
    "Problem",
    "Proportions",
    "PureNoise",
    "RandomLabel",
    "Rotated",
    "Size",
    "TrainSpec",
    "Training",
    "WrongLabel",
    "problem",
    "read_spec",
    "require_within",
    "size_of",
]
