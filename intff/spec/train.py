"""The training spec as a whole: what one job is, checked part against part."""

from __future__ import annotations

from math import prod
from typing import Any, Literal, Self

from pydantic import GetJsonSchemaHandler, model_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from intff import notation
from intff.errors import NotationError, SpecError
from intff.presets import PRESETS, expand_preset
from intff.spec.algorithm import BP, FF, Algorithm, IntFF
from intff.spec.architecture import Architecture, Layers
from intff.spec.base import SpecPart
from intff.spec.dataset import Dataset, Digits, FashionMnist, Kmnist, Mnist
from intff.spec.noise import Noise, NoNoise
from intff.spec.training import Training

_DEFAULT_UNITS = ((200, 200, 200), (50, 50))  # the paper's larger network (Table 1)


class TrainSpec(SpecPart):
    """One training run: the HTTP body's `spec`, the job's row and the trainer's input.

    Every part may be written in short (`"algorithm": "ff"`) and comes back in full, with every
    default filled in; the full form, posted again, is the same run.
    """

    version: Literal[1] = 1
    dataset: Dataset = Mnist()
    noise: Noise = NoNoise()
    architecture: Architecture = Layers(units=_DEFAULT_UNITS)
    algorithm: Algorithm = IntFF()
    training: Training = Training()

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Show `preset`, which is read and replaced before the fields are, in the schema of requests."""
        schema = handler(core)
        if handler.mode == "validation":
            description = "A named spec, filled in under whatever is given beside it."
            preset = {"type": "string", "enum": list(PRESETS), "description": description}
            handler.resolve_ref_schema(schema)["properties"]["preset"] = preset
        return schema

    @model_validator(mode="before")
    @classmethod
    def _read_short_forms(cls, data: Any) -> Any:  # noqa: ANN401 -- pydantic hands over whatever arrived
        if not isinstance(data, dict):
            return data
        data = expand_preset(data)
        written = data.get("architecture")
        return _with_notation(data, written) if isinstance(written, str) else data

    @model_validator(mode="after")
    def _check_parts_against_each_other(self) -> Self:
        shape = self.dataset.image_shape
        given = self.architecture.input_shape
        if given is not None and prod(given) != prod(shape):
            msg = (
                f"{self.dataset.kind} images have the shape {list(shape)}, {prod(shape)} pixels, "
                f"but the architecture takes {prod(given)}"
            )
            raise SpecError(msg, field="architecture")
        available = self.dataset.train_images - self.dataset.validation_size
        if available < (self.dataset.train_size or 1):
            msg = (
                f"{self.dataset.kind} has {self.dataset.train_images} training images; with "
                f"{self.dataset.validation_size} held out for validation, {max(available, 0)} are left to train on"
            )
            field = "dataset.train_size" if self.dataset.train_size else "dataset.validation_size"
            raise SpecError(msg, field=field)
        if not isinstance(self.algorithm, BP):
            self._check_labels(self.algorithm)
        # Frozen against callers; these two are this class's own normal form.
        object.__setattr__(self, "architecture", self._normal_architecture())
        return self

    def _check_labels(self, algorithm: IntFF | FF) -> None:
        classes = len(self.dataset.labels)
        if algorithm.negatives.kind == "wrong_label" and algorithm.negatives.count >= classes:
            msg = f"{classes} classes have {classes - 1} wrong labels for an image, got {algorithm.negatives.count}"
            raise SpecError(msg, field="algorithm.negatives.count")

    def _normal_architecture(self) -> Layers:
        """The units as the algorithm sees them: FF splits every layer off, BP has one loss for all."""
        units = self.architecture.units
        flat = tuple(width for unit in units for width in unit)
        if isinstance(self.algorithm, FF):
            units = tuple((width,) for width in flat)
        elif isinstance(self.algorithm, BP):
            units = (flat,)
        return self.architecture.model_copy(update={"units": units, "input_shape": self.dataset.image_shape})


def _with_notation(data: dict[str, Any], written: str) -> dict[str, Any]:
    """Replace a notation string by layers; a bare last number of classes is the softmax layer."""
    try:
        read = notation.parse(written)
    except NotationError as error:
        raise SpecError(str(error), field="architecture") from error
    units = read.units
    algorithm = data.get("algorithm", "intff")
    kind = algorithm.get("kind", "intff") if isinstance(algorithm, dict) else algorithm
    if read.last_is_bare and units[-1] == (_classes(data),) and kind in ("intff", "bp"):
        units = units[:-1]
        if not units:
            msg = f"{written!r} is only an output layer; write at least one hidden layer before it"
            raise SpecError(msg, field="architecture")
        if kind == "intff":
            data = {**data, "algorithm": _with_softmax(algorithm, written)}
    return {**data, "architecture": {"kind": "layers", "input_shape": [read.input_size], "units": units}}


def _with_softmax(algorithm: Any, written: str) -> dict[str, Any]:  # noqa: ANN401 -- not validated yet
    given = algorithm if isinstance(algorithm, dict) else {"kind": algorithm}
    if given.get("classifier", "softmax") != "softmax":
        msg = (
            f"the bare last number of {written!r} is a softmax layer, but classifier is {given['classifier']!r}; "
            "put the number in parentheses to make it a hidden unit"
        )
        raise SpecError(msg, field="algorithm.classifier")
    return {**given, "classifier": "softmax"}


def _classes(data: dict[str, Any]) -> int:
    dataset = data.get("dataset", "mnist")
    kind = dataset.get("kind") if isinstance(dataset, dict) else dataset
    known = {cls.model_fields["kind"].default: cls for cls in (Mnist, FashionMnist, Kmnist, Digits)}
    return len(known.get(kind if isinstance(kind, str) else None, Mnist).labels)
