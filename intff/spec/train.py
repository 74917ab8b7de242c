"""The complete training spec, including the checks that involve several of its parts."""

from __future__ import annotations

from math import prod
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, GetJsonSchemaHandler, TypeAdapter, ValidationError, model_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from intff import notation
from intff.errors import NotationError, SpecError, shown
from intff.presets import PRESETS, expand_preset, merge
from intff.spec.algorithm import BP, FF, Algorithm, Groups, IntFF
from intff.spec.architecture import Architecture, Layers
from intff.spec.base import SpecPart, as_written
from intff.spec.dataset import Dataset, Digits, FashionMnist, Kmnist, Mnist
from intff.spec.layers import Conv, Layer, MaxPool
from intff.spec.noise import Noise, NoNoise, require_rows_within
from intff.spec.shapes import unit_shapes
from intff.spec.training import Training

_ARCHITECTURE: TypeAdapter[Layers] = TypeAdapter(Architecture)

_GROUPED: dict[str, Any] = {
    "label_encoding": {"kind": "groups"},
    "loss": "cross_entropy",
    "negatives": {"kind": "wrong_label", "count": 9},
    "normalization": "layer",
}
"""Defaults of the local losses with labels as groups, where using every wrong label is free (decision 0008)."""


def _require_whole(version: Any) -> Any:  # noqa: ANN401 -- pydantic hands over whatever arrived
    if isinstance(version, bool | float):  # True and 1.0 equal 1
        msg = "the version must be the integer 1"
        raise SpecError(msg)
    return version


class TrainSpec(SpecPart):
    """The definition of one training run: the `spec` of an HTTP request, of a job and of the trainer.

    Every part may be given in a short form (`"algorithm": "ff"`) and is returned in full, with all
    defaults filled in; the full form defines the same run.
    """

    version: Annotated[Literal[1], BeforeValidator(_require_whole)] = 1
    dataset: Dataset = Mnist()
    noise: Noise = NoNoise()
    architecture: Architecture = Layers()
    algorithm: Algorithm = IntFF()
    training: Training = Training()

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Add `preset`, which is expanded before the fields are validated, to the schema of requests."""
        schema = handler(core)
        if handler.mode == "validation":
            description = "A named spec; the other fields given override it."
            preset = {"type": ["string", "null"], "enum": [*PRESETS, None], "description": description}
            handler.resolve_ref_schema(schema)["properties"]["preset"] = preset
        return schema

    @model_validator(mode="before")
    @classmethod
    def _read_short_forms(cls, data: Any) -> Any:  # noqa: ANN401 -- pydantic hands over whatever arrived
        if not isinstance(data, dict):
            return data
        data = expand_preset({name: as_written(part) for name, part in data.items()})
        written = data.get("architecture")
        if isinstance(written, str):
            data = _with_notation({**data, "architecture": {}}, written)
        elif isinstance(written, dict) and isinstance(written.get("units"), str):
            data = _with_notation(data, written["units"])
        return _with_label_defaults(data)

    @model_validator(mode="after")
    def _check_parts_against_each_other(self) -> Self:
        shape = self.dataset.image_shape
        _require_shape_of(self.dataset, self.architecture.input_shape)
        available = self.dataset.train_images - self.dataset.validation_size
        if available < (self.dataset.train_size or 1):
            msg = (
                f"{self.dataset.kind} has {self.dataset.train_images} training images; with "
                f"{self.dataset.validation_size} held out for validation, {max(available, 0)} are left to train on"
            )
            field = "dataset.train_size" if self.dataset.train_size else "dataset.validation_size"
            raise SpecError(msg, field=field)
        require_rows_within(self.noise, shape[1])
        training = self.training
        if training.steps_per_unit > 1 and training.unit_order != "one_by_one":
            msg = f'several steps per batch need unit_order "one_by_one", got {training.steps_per_unit} with "together"'
            raise SpecError(msg, field="training.steps_per_unit")
        # The spec is frozen for callers; here it is brought into its normal form.
        object.__setattr__(self, "architecture", self._normal_architecture())
        _ = self.architecture.shapes  # raises if the layers do not fit together
        if not isinstance(self.algorithm, BP):
            self._check_units(self.algorithm)
            self._check_labels(self.algorithm)
        return self

    def _check_units(self, algorithm: IntFF | FF) -> None:
        for number, unit in enumerate(self.architecture.units):
            if all(isinstance(layer, MaxPool) for layer in unit):
                msg = "a hidden unit needs at least one layer with parameters; move the pooling to the previous unit"
                raise SpecError(msg, field=f"architecture.units.{number}")
            first = unit[0]
            if algorithm.label_encoding.kind == "embedding" and not isinstance(first, int | Conv):
                msg = "with label embeddings, each unit must begin with a dense or convolutional layer"
                raise SpecError(msg, field=f"architecture.units.{number}.0")
        units = len(self.architecture.units)
        if isinstance(algorithm.unit_weights, tuple) and len(algorithm.unit_weights) != units:
            msg = f"one weight per hidden unit is needed: {units} units, got {len(algorithm.unit_weights)} weights"
            raise SpecError(msg, field="algorithm.unit_weights")
        if isinstance(algorithm.unit_weights, tuple) and not any(algorithm.unit_weights):
            msg = "at least one hidden unit must have a weight above 0, got only zeros"
            raise SpecError(msg, field="algorithm.unit_weights")

    def _check_labels(self, algorithm: IntFF | FF) -> None:
        classes = len(self.dataset.labels)
        negatives = algorithm.negatives
        if negatives.kind in ("wrong_label", "hard_label") and negatives.count >= classes:
            msg = f"with {classes} classes an image has only {classes - 1} wrong labels, got {negatives.count}"
            raise SpecError(msg, field="algorithm.negatives.count")
        if not isinstance(algorithm.label_encoding, Groups):
            return
        for number, size in enumerate(self.architecture.output_sizes):
            if size < classes:
                msg = f"{classes} classes need a group each, but the unit's output has only {size} neurons or channels"
                raise SpecError(msg, field=f"architecture.units.{number}")

    def _normal_architecture(self) -> Layers:
        """The units as the algorithm uses them: with FF each layer is a unit, with BP all layers form one."""
        units = self.architecture.units
        flat = tuple(layer for unit in units for layer in unit)
        if isinstance(self.algorithm, FF):
            units = _one_layer_each(flat)
        elif isinstance(self.algorithm, BP):
            units = (flat,)
        return self.architecture.model_copy(update={"units": units, "input_shape": self.dataset.image_shape})


def _require_shape_of(dataset: Dataset, given: tuple[int, ...] | None) -> None:
    """Reject an input shape other than the images': in full, without a single channel, or flattened."""
    shape = dataset.image_shape
    if given in {None, shape, shape[1:] if shape[0] == 1 else shape, (prod(shape),)}:
        return
    assert given is not None
    images = f"{dataset.kind} images have the shape {list(shape)}, {prod(shape)} pixels"
    if len(given) == 1:  # as in the string notation
        msg = f"{images}, but the architecture takes {given[0]}"
        raise SpecError(msg, field="architecture")
    msg = f"{images}, but the architecture takes the shape {list(given)}"
    raise SpecError(msg, field="architecture.input_shape")


def _one_layer_each(layers: tuple[Layer, ...]) -> tuple[tuple[Layer, ...], ...]:
    """One unit per layer; pooling, which has no parameters, joins the layer before it or, at the start, after it."""
    units: list[tuple[Layer, ...]] = []
    for layer in layers:
        before = units[-1] if units else ()
        if before and (isinstance(layer, MaxPool) or all(isinstance(each, MaxPool) for each in before)):
            units[-1] = (*before, layer)
        else:
            units.append((layer,))
    return tuple(units)


def _with_label_defaults(data: dict[str, Any]) -> dict[str, Any]:
    """Fill in a missing label encoding: groups, if every unit's output has room for one per class, else overlay."""
    algorithm = data.get("algorithm", "intff")
    given = {"kind": algorithm} if isinstance(algorithm, str) else algorithm
    if not isinstance(given, dict) or given.get("kind", "intff") not in ("intff", "ff"):
        return data
    if "label_encoding" not in given:
        encoding = "groups" if _has_room_for_groups(data, given.get("kind") == "ff") else "overlay"
        given = {**given, "label_encoding": {"kind": encoding}}
    encoding = given["label_encoding"]
    encoding = encoding.get("kind", "overlay") if isinstance(encoding, dict) else encoding
    return {**data, "algorithm": merge(_GROUPED, given) if encoding == "groups" else given}


def _has_room_for_groups(data: dict[str, Any], is_ff: bool) -> bool:
    if "architecture" not in data:
        return True
    dataset = _dataset(data)
    try:
        units = _ARCHITECTURE.validate_python(data["architecture"]).units
        if is_ff:
            units = _one_layer_each(tuple(layer for unit in units for layer in unit))
        shapes = unit_shapes(dataset.image_shape, units)
    except (ValidationError, SpecError):
        return False  # the spec's own validation reports it
    return all(unit[-1][0] >= len(dataset.labels) for unit in shapes)


def _with_notation(data: dict[str, Any], written: str) -> dict[str, Any]:
    """Replace a notation string with layers.

    A last number outside parentheses that equals the number of classes is the softmax layer.
    """
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
            msg = f"{written!r} has only an output layer; add at least one hidden layer before it"
            raise SpecError(msg, field="architecture")
        if kind == "intff":
            data = {**data, "algorithm": _with_softmax(algorithm, written)}
    architecture = {**data["architecture"], "input_shape": [read.input_size], "units": units}
    return {**data, "architecture": architecture}


def _with_softmax(algorithm: object, written: str) -> dict[str, Any]:
    given = algorithm if isinstance(algorithm, dict) else {"kind": algorithm}
    if given.get("classifier", "softmax") != "softmax":
        msg = (
            f"the last number in {written!r} is a softmax layer, but classifier is {shown(given['classifier'])}; "
            "put the number in parentheses to make it a hidden unit"
        )
        raise SpecError(msg, field="algorithm.classifier")
    return {**given, "classifier": "softmax"}


def _classes(data: dict[str, Any]) -> int:
    return len(_dataset(data).labels)


def _dataset(data: dict[str, Any]) -> type[Mnist | FashionMnist | Kmnist | Digits]:
    dataset = data.get("dataset", "mnist")
    kind = dataset.get("kind") if isinstance(dataset, dict) else dataset
    for known in (FashionMnist, Kmnist, Digits):
        if kind == known.model_fields["kind"].default:
            return known
    return Mnist
