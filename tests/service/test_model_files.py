"""A model's file is sent whole and as it was published, or not at all."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import httpx

from store.settings import Settings

if TYPE_CHECKING:
    from tests.service.conftest import MakeModel


def test_a_file_with_one_flipped_bit_is_not_sent(
    client: httpx.Client, make_model: MakeModel, settings: Settings
) -> None:
    model = make_model()
    path = f"/v1/models/{model}/artifacts/weights.safetensors"
    assert client.get(path).content == b"weights"

    (stored,) = Path(settings.artifacts_url).rglob("weights.safetensors")
    stored.write_bytes(b"veights")

    answer = client.get(path)
    assert answer.status_code == 503
    assert answer.json()["code"] == "model_corrupt"
