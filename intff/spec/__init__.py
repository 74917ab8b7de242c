"""The training spec: what a run is. Pure data, no torch; everything else is built from it."""

from intff.spec.algorithm import BP, FF, IntFF, Overlay, RandomLabel, WrongLabel
from intff.spec.architecture import Layers
from intff.spec.dataset import Digits, FashionMnist, Kmnist, Mnist
from intff.spec.limits import Limits, Size, require_within, size_of
from intff.spec.noise import NoNoise, PaperMixture
from intff.spec.problems import Problem, problem, read_spec
from intff.spec.train import TrainSpec
from intff.spec.training import EarlyStopping, Training

__all__ = [
    "BP",
    "FF",
    "Digits",
    "EarlyStopping",
    "FashionMnist",
    "IntFF",
    "Kmnist",
    "Layers",
    "Limits",
    "Mnist",
    "NoNoise",
    "Overlay",
    "PaperMixture",
    "Problem",
    "RandomLabel",
    "Size",
    "TrainSpec",
    "Training",
    "WrongLabel",
    "problem",
    "read_spec",
    "require_within",
    "size_of",
]
