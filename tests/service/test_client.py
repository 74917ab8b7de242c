"""The client against a running application: what it sends arrives, and what goes wrong is said in one way."""

from __future__ import annotations

import hashlib
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, get_type_hints

import httpx
import numpy as np
import pytest
from PIL import Image
from starlette.types import Receive, Scope, Send

from intff.spec import Problem
from service.app import create_app
from service.client import ApiError, Client, Event
from service.client import Job as ClientJob
from service.schemas.jobs import Job
from store import queries
from store.attempts import Claim
from store.database import Sessions
from store.settings import Settings

SPEC = {"dataset": "digits", "architecture": "64,(8),(4)"}


@pytest.fixture
def database_url(tmp_path: Path) -> str:
    """The client sees no database; one kind is enough."""
    return f"sqlite:///{tmp_path / 'intff.db'}"


@pytest.fixture
def api(client: httpx.Client) -> Iterator[Client]:
    with Client(str(client.base_url)) as api:
        yield api


@pytest.fixture
def train(db: Sessions) -> Callable[[str, int], Claim]:
    """Do a worker's part: claim a job and report some epochs."""

    def run(job_id: str, epochs: int) -> Claim:
        with db.begin() as session:
            claim = queries.claim(session, job_id, worker="w", lease_seconds=60, max_attempts=3)
        assert claim is not None
        for epoch in range(1, epochs + 1):
            metrics = {
                "epoch": epoch,
                "seconds": 1.5,
                "loss": 0.5,
                "unit_losses": [0.25],
                "unit_goodness_positive": [2.0],
                "unit_goodness_negative": [1.0],
                "validation_accuracy": 0.75,
                "learning_rate": 0.003,
                "samples_per_second": 1000.0,
            }
            progress = {"epoch": epoch, "epochs": epochs, "fraction": epoch / epochs, "eta_seconds": 1.0}
            with db.begin() as session:
                assert queries.record_epoch(session, claim, metrics, progress)
        return claim

    return run


def fail(db: Sessions, claim: Claim) -> None:
    with db.begin() as session:
        assert queries.fail(session, claim, code="diverged", message="the loss became NaN")


def test_the_typed_job_is_the_one_of_the_api() -> None:
    assert set(get_type_hints(ClientJob)) == set(Job.model_fields)


def test_a_submitted_job_has_what_was_asked_for(api: Client) -> None:
    job = api.submit(SPEC, name="mine", metadata={"row": 1}, priority=7)
    assert job == api.job(job["id"])
    assert (job["name"], job["metadata"], job["status"]) == ("mine", {"row": 1}, "queued")
    assert job["spec"]["architecture"]["units"] == [[8], [4]]


def test_a_key_of_the_callers_makes_one_job_of_two_requests(api: Client) -> None:
    first, second = api.submit(SPEC, idempotency_key="a1"), api.submit(SPEC, idempotency_key="a1")
    other = api.submit(SPEC)
    assert first["id"] == second["id"] != other["id"]


def test_jobs_are_fetched_page_by_page_newest_first(api: Client) -> None:
    submitted = [api.submit(SPEC, name=name)["id"] for name in ("a", "b", "a", "a")]
    assert [job["id"] for job in api.jobs(page=1)] == submitted[::-1]
    assert [job["id"] for job in api.jobs(name="a", page=2)] == [submitted[3], submitted[2], submitted[0]]
    api.move(submitted[0], "cancel")
    assert [job["id"] for job in api.jobs(status="cancelled")] == [submitted[0]]
    assert next(api.jobs(page=1))["id"] == submitted[-1]


def test_a_job_is_followed_to_its_end(api: Client, train: Callable[[str, int], Claim], db: Sessions) -> None:
    job = api.submit(SPEC)
    claim = train(job["id"], 3)
    fail(db, claim)
    seen = list(api.events(job["id"]))
    assert [event.data["epoch"] for event in seen if event.kind == "metrics"] == [1, 2, 3]
    assert api.metrics(job["id"]) == [event.data for event in seen if event.kind == "metrics"]
    assert (seen[-1].kind, seen[-1].data["status"]) == ("status", "failed")
    assert list(api.events(job["id"], last_event_id=seen[-1].id)) == []


def test_a_stream_that_keeps_breaking_is_told_once_and_whole(
    client: httpx.Client, train: Callable[[str, int], Claim], db: Sessions
) -> None:
    with Client(str(client.base_url)) as api:
        job = api.submit(SPEC)
    with _cutting(client.base_url.port or 0, after=3000) as (port, cut), Client(f"http://127.0.0.1:{port}") as api:
        seen: list[Event] = []
        following = threading.Thread(target=lambda: seen.extend(api.events(job["id"])))
        following.start()
        claim = train(job["id"], 20)
        fail(db, claim)
        following.join(timeout=60)
    assert [event.data["epoch"] for event in seen if event.kind == "metrics"] == list(range(1, 21))
    assert (seen[-1].kind, seen[-1].data["status"]) == ("status", "failed")
    assert len(cut) > 1


def test_a_move_that_is_impossible_is_a_conflict(api: Client, train: Callable[[str, int], Claim], db: Sessions) -> None:
    job = api.submit(SPEC)
    assert api.move(job["id"], "pause")["status"] == "paused"
    assert api.move(job["id"], "resume")["status"] == "queued"
    fail(db, train(job["id"], 1))
    with pytest.raises(ApiError, match="failed") as refused:
        api.move(job["id"], "pause")
    assert (refused.value.status, refused.value.code) == (409, "conflict")


def test_a_spec_that_cannot_be_run_is_refused_with_its_field(api: Client) -> None:
    with pytest.raises(ApiError) as refused:
        api.submit({"architecture": "784,(200"})
    assert (refused.value.status, refused.value.code) == (422, "invalid_spec")
    (problem,) = refused.value.problems
    assert isinstance(problem, Problem)
    assert problem.field == "spec.architecture"
    assert problem.message in str(refused.value)


def test_what_is_not_there_is_an_error_of_its_own(api: Client, tmp_path: Path) -> None:
    with pytest.raises(ApiError, match="job_nowhere") as refused:
        api.job("job_nowhere")
    assert (refused.value.status, refused.value.code) == (404, "not_found")
    with pytest.raises(ApiError, match="there is no model yet"):
        api.download("latest", "model.onnx", tmp_path / "model.onnx")
    with pytest.raises(ApiError):
        list(api.events("job_nowhere"))
    assert list(tmp_path.glob("*model.onnx*")) == []


def test_a_service_that_is_not_there_is_named() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{probe.getsockname()[1]}"
        with Client(url) as api, pytest.raises(ApiError, match=f"no service answers at {url} .*intff serve") as lost:
            api.job("job_x")
    assert lost.value.status is None
    with Client(url) as api:
        assert not api.is_ready()


def test_an_answer_that_is_not_the_services_is_an_error_too(tmp_path: Path) -> None:
    bad = b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 6\r\n\r\n<html>"
    with (
        _answering(bad) as port,
        Client(f"http://127.0.0.1:{port}") as api,
        pytest.raises(ApiError, match="answered 502") as refused,
    ):
        api.download("latest", "model.onnx", tmp_path / "model.onnx")
    assert (refused.value.status, refused.value.code) == (502, "http_error")


def test_models_are_listed_named_and_asked(api: Client, make_model: Callable[..., str], tmp_path: Path) -> None:
    first, second = make_model(), make_model()
    assert [model["id"] for model in api.models(page=1)] == [second, first]
    assert api.set_alias("best", first) == {"object": "alias", "alias": "best", "model": first}
    assert api.model("best")["aliases"] == ["best"]
    picture = np.array([[0, 0], [255, 0]], dtype=np.uint8)  # its third pixel scores label c, once and twice
    by_array = api.predict("best", [picture])
    assert by_array["model"] == first
    assert by_array["predictions"][0]["label"] == "c"
    assert by_array["predictions"][0]["goodness"] == [0.0, 0.0, 3.0]
    assert api.predict("latest", [[[0.0, 0.5], [0.0, 0.0]]], scale="unit")["predictions"][0]["goodness"][1] == 1.5
    Image.fromarray(picture).save(tmp_path / "c.png")
    assert api.predict_files("best", [tmp_path / "c.png"], invert="false") == by_array


def test_a_downloaded_file_is_the_published_one(
    api: Client, make_model: Callable[..., str], tmp_path: Path, settings: Settings
) -> None:
    model = make_model()
    for artifact in (*api.model(model)["artifacts"], {"name": "manifest.json"}):
        api.download(model, artifact["name"], tmp_path / artifact["name"])
        published = next(Path(settings.artifacts_url).rglob(artifact["name"]))
        assert (tmp_path / artifact["name"]).read_bytes() == published.read_bytes()


def test_a_key_opens_what_is_closed_without_it(settings: Settings, serve: Any) -> None:
    key = "a-key-of-enough-characters"
    closed = create_app(settings.model_copy(update={"api_keys": Settings(api_keys=(key,)).api_keys}))
    with serve(closed) as http:
        with Client(str(http.base_url)) as api, pytest.raises(ApiError) as refused:
            list(api.jobs())
        assert refused.value.code == "unauthorized"
        with Client(str(http.base_url), key) as api:
            assert list(api.jobs()) == []


@contextmanager
def _cutting(upstream: int, *, after: int) -> Iterator[tuple[int, list[int]]]:
    """A relay that cuts every connection once that many bytes of an answer have passed."""
    cut: list[int] = []

    def relay(near: socket.socket) -> None:
        with closing(near), closing(socket.create_connection(("127.0.0.1", upstream))) as far:
            far.sendall(near.recv(65536))
            passed = 0
            while passed < after and (data := far.recv(512)):
                near.sendall(data)
                passed += len(data)
            cut.append(passed)

    with _listening(relay) as port:
        yield port, cut


@contextmanager
def _answering(answer: bytes) -> Iterator[int]:
    """A server that has one answer for everybody."""

    def give(near: socket.socket) -> None:
        with closing(near):
            near.recv(65536)
            near.sendall(answer)

    with _listening(give) as port:
        yield port


@contextmanager
def _listening(serve: Callable[[socket.socket], None]) -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.1)
        over = threading.Event()

        def accept() -> None:
            while not over.is_set():
                try:
                    near, _ = server.accept()
                except TimeoutError:
                    continue
                near.settimeout(30)
                serve(near)

        accepting = threading.Thread(target=accept)
        accepting.start()
        try:
            yield server.getsockname()[1]
        finally:
            over.set()
            accepting.join()


@pytest.mark.parametrize("url", ["localhost:8000", "ftp://localhost", "http://[::1", "http://", "", "127.0.0.1/v1"])
def test_what_is_no_url_of_a_service_is_refused_at_once(url: str) -> None:
    with pytest.raises(ApiError, match=r"looks like http://127\.0\.0\.1:8000, got '") as refused:
        Client(url)
    assert not refused.value.is_temporary


def test_a_key_that_no_header_can_carry_is_refused_without_being_shown() -> None:
    for key in ("clé-secrète", "a\nb", "\x7f"):
        with pytest.raises(ApiError, match="printable ASCII") as refused:
            Client("http://127.0.0.1:8000", key)
        assert key not in str(refused.value)


@contextmanager
def answering(serve: Any, body: bytes, *headers: tuple[bytes, bytes]) -> Iterator[Client]:
    """A client of a server that always gives this answer."""

    async def app(scope: Scope, _: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": body})

    with serve(app) as server, Client(str(server.base_url)) as api:
        yield api


def test_another_server_is_told_from_the_service(serve: Any) -> None:
    with (
        answering(serve, b"<html>") as api,
        pytest.raises(ApiError, match="answered 200, but not as this"),
    ):
        api.job("job_1")


def test_a_file_is_checked_by_the_hash_that_comes_with_it(serve: Any, tmp_path: Path) -> None:
    digest = hashlib.sha256(b"graph").hexdigest().encode()
    for tag in (b"", b'"%s"', b'W/"%s"', b'"%s-gzip"'):
        with answering(serve, b"graph", (b"etag", tag.replace(b"%s", digest))) as api:
            api.download("latest", "model.onnx", tmp_path / "model.onnx")
        assert (tmp_path / "model.onnx").read_bytes() == b"graph"
    with answering(serve, b"grapf", (b"etag", b'W/"' + digest + b'"')) as api, pytest.raises(ApiError, match="damaged"):
        api.download("latest", "model.onnx", tmp_path / "other.onnx")
    assert not (tmp_path / "other.onnx").exists()
