"""Figures of jobs over HTTP: of every state of a job, in both formats, and for their owner only."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from PIL import Image

from service.app import create_app
from service.routes import plots
from store import queries, tables
from store.database import Sessions
from store.settings import Settings

MakeJob = Callable[..., tables.Job]
KEYS = {"ann": "a" * 32, "bob": "b" * 32}


def metrics_of(epoch: int, units: int = 2) -> dict[str, Any]:
    return {
        "epoch": epoch,
        "seconds": 1.5,
        "loss": 0.5,
        "unit_losses": [0.5 / epoch] * units,
        "unit_goodness_positive": [2.0] * units,
        "unit_goodness_negative": [1.0] * units,
        "validation_accuracy": 0.75,
        "learning_rate": 0.003,
        "samples_per_second": 1000.0,
    }


def run(db: Sessions, job_id: str, *, epochs: int, of: int = 30, ends: str = "") -> None:
    """Have a worker finish some epochs of a job, and end it."""
    with db.begin() as session:
        claim = queries.claim(session, job_id, worker="w", lease_seconds=60, max_attempts=3)
        assert claim is not None
        for epoch in range(1, epochs + 1):
            progress = {"epoch": epoch, "epochs": of, "fraction": epoch / of}
            queries.record_epoch(session, claim, metrics_of(epoch), progress)
        if ends:
            queries.fail(session, claim, code=ends, message="it ended")


def texts(response: httpx.Response) -> list[str]:
    assert response.status_code == 200, response.text
    return re.findall(r"<!-- (.*) -->", response.text)


def test_a_running_job_is_drawn_so_far(client: httpx.Client, db: Sessions, make_job: MakeJob) -> None:
    job = make_job(name="mine").id
    run(db, job, epochs=3)
    response = client.get(f"/v1/jobs/{job}/plot.svg")
    assert response.headers["content-type"] == "image/svg+xml"
    assert response.headers["content-disposition"] == f'inline; filename="{job}.svg"'
    assert "mine; IntFF (64,(8),(4)) on digits; running, epoch 3 of 30" in response.text
    assert {"unit 1: (8)", "unit 2: (4)", "θ = 1.5"} <= set(texts(response))
    assert client.get(f"/v1/jobs/{job}/plot.svg").content == response.content


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_png_can_be_opened(client: httpx.Client, db: Sessions, make_job: MakeJob) -> None:
    job = make_job().id
    run(db, job, epochs=1)
    response = client.get(f"/v1/jobs/{job}/plot.png")
    assert (response.status_code, response.headers["content-type"]) == (200, "image/png")
    assert Image.open(BytesIO(response.content)).width == 1440


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_job_without_an_epoch_has_a_figure_that_says_so(
    client: httpx.Client, db: Sessions, make_job: MakeJob, make_model: Callable[..., str]
) -> None:
    queued, running, failed, cancelled = (make_job().id for _ in range(4))
    run(db, running, epochs=0)
    run(db, failed, epochs=0, ends="diverged")
    client.post(f"/v1/jobs/{cancelled}/cancel")
    make_model(name="done")
    (succeeded,) = (job["id"] for job in client.get("/v1/jobs", params={"name": "done"}).json()["data"])
    for job, note in (
        (queued, "queued"),
        (running, "running"),
        (failed, "failed: diverged"),
        (cancelled, "cancelled"),
        (succeeded, "succeeded, test accuracy 50.00 %"),
    ):
        written = texts(client.get(f"/v1/jobs/{job}/plot.svg"))
        assert written[-2:] == [note, "no epoch has finished"]
        assert "epoch" not in written  # there is no axis


def test_a_long_job_is_thinned_before_it_is_read(client: httpx.Client, db: Sessions, make_job: MakeJob) -> None:
    """Of 1,001 epochs every third is read, counted from the last: 2, 5, ... 1,001, which are 334."""
    job = make_job().id
    run(db, job, epochs=1001, of=1001)
    with db() as session:
        sample = queries.sample_metrics(session, job, owner=tables.NO_OWNER, most=500)
        assert [row["epoch"] for row in sample] == list(range(2, 1002, 3))
        whole = queries.sample_metrics(session, job, owner=tables.NO_OWNER, most=1001)
        assert [row["epoch"] for row in whole] == list(range(1, 1002))
    assert "running, epoch 1001 of 1001" in texts(client.get(f"/v1/jobs/{job}/plot.svg"))


@pytest.fixture
def two_owners(settings: Settings, serve: Any) -> Iterator[httpx.Client]:
    keyed = Settings(**{**settings.model_dump(exclude={"api_keys"}), "api_keys": ",".join(KEYS.values())})
    with serve(create_app(keyed)) as client:
        yield client


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
@pytest.mark.parametrize("image", ["svg", "png"])
def test_another_keys_job_is_a_404(two_owners: httpx.Client, image: str) -> None:
    ann, bob = ({"Authorization": f"Bearer {KEYS[name]}"} for name in ("ann", "bob"))
    spec = {"dataset": "digits", "architecture": "64,(8)"}
    job = two_owners.post("/v1/jobs", json={"spec": spec}, headers=ann).json()["id"]
    path = f"/v1/jobs/{job}/plot.{image}"
    assert two_owners.get(path, headers=ann).status_code == 200
    for response, status in ((two_owners.get(path, headers=bob), 404), (two_owners.get(path), 401)):
        assert (response.status_code, response.headers["content-type"]) == (status, "application/problem+json")


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_job_that_is_not_there_is_a_404(client: httpx.Client) -> None:
    for job in ("job_00000000000000000000000000", "nonsense", "%00"):
        response = client.get(f"/v1/jobs/{job}/plot.svg")
        assert (response.status_code, response.json()["code"]) == (404, "not_found")
    assert client.get("/v1/jobs/nonsense/plot.gif").status_code == 404


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_drawing_holds_nobody_up_and_has_a_line_of_limited_length(
    app: FastAPI, client: httpx.Client, make_job: MakeJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One is drawn, two may wait, the fourth is refused; meanwhile every other route answers."""
    begun, go_on = threading.Event(), threading.Event()

    def slow(*_: Any, **__: Any) -> bytes:
        begun.set()
        assert go_on.wait(20)
        return b"<svg/>"

    monkeypatch.setattr(plots, "figure3", slow)
    app.state.parts.drawings.most_waiting = 2
    path = f"/v1/jobs/{make_job().id}/plot.svg"
    with ThreadPoolExecutor(5) as pool:
        first = [pool.submit(client.get, path) for _ in range(5)]
        assert begun.wait(20)
        refused: list[httpx.Response] = []
        while len(refused) < 2:  # of the five; which two is a matter of chance
            refused = [each.result() for each in first if each.done()]
        assert client.get("/v1/jobs").status_code == 200
        assert client.get("/healthz").status_code == 200
        go_on.set()
        answered = [each.result() for each in first]
    assert sorted(response.status_code for response in answered) == [200, 200, 200, 429, 429]
    assert {response.json()["code"] for response in refused} == {"rate_limited"}
    assert {response.headers["retry-after"] for response in refused} == {"5"}


def test_the_document_tells_of_the_figures_and_their_errors(app: FastAPI) -> None:
    paths = app.openapi()["paths"]
    for image, media_type in (("svg", "image/svg+xml"), ("png", "image/png")):
        answers = paths[f"/v1/jobs/{{job_id}}/plot.{image}"]["get"]["responses"]
        assert set(answers) == {"200", "401", "404", "429", "500", "503"}
        assert list(answers["200"]["content"]) == [media_type]
