"""Publishes a trained model in a home folder, in the same steps as a worker."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import intff
from intff.spec import read_spec
from store import queries
from store.artifacts import Artifacts
from store.database import connect, sessions
from store.schema import upgrade
from store.settings import Settings
from store.tables import Model


def publish_model(home: Path, spec: Mapping[str, Any], epochs: int = 1) -> Model:
    """Train briefly, and publish the model in the database and the artifact store of `home`."""
    settings = Settings(home=home)
    read = read_spec({**spec, "training": {"epochs": epochs}})
    engine = connect(settings.database_url)
    upgrade(engine)
    trained = intff.train(read, data_dir=settings.data_dir)
    prefix = "models/benchmark/attempt-1"
    with TemporaryDirectory() as scratch:
        manifest = trained.save(Path(scratch) / "model")
        Artifacts(settings.artifacts_url).put_folder(Path(scratch) / "model", prefix)
    with sessions(engine).begin() as session:
        job = queries.submit(session, read)
        claim = queries.claim(session, job.id, worker="benchmark", lease_seconds=60, max_attempts=1)
        assert claim is not None
        facts, result = asdict(manifest), asdict(trained.result)
        model = queries.succeed(session, claim, manifest=facts, prefix=prefix, result=result)
    engine.dispose()
    assert model is not None
    return model
