import gzip
import hashlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from intff import datasets
from intff.datasets import download, files, sources
from intff.datasets.sources import SOURCES, File, Source
from intff.errors import DatasetCorrupt, DatasetUnavailable
from intff.spec import FashionMnist, Kmnist, Mnist

NAMES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
SHAPES = ((6, 4, 4), (6,), (3, 4, 4), (3,))


def idx_file(shape: tuple[int, ...], first: int) -> bytes:
    header = bytes([0, 0, 8, len(shape)]) + b"".join(length.to_bytes(4, "big") for length in shape)
    return header + bytes((first + step) % 256 for step in range(int(np.prod(shape))))


CONTENTS = {name: idx_file(shape, 10 * i) for i, (name, shape) in enumerate(zip(NAMES, SHAPES, strict=True))}
OTHERS = {name: idx_file(shape, 99 + 10 * i) for i, (name, shape) in enumerate(zip(NAMES, SHAPES, strict=True))}


def tiny(contents: dict[str, bytes], *mirrors: str) -> Source:
    one, two, three, four = (
        File(name, shape, f"sha256:{hashlib.sha256(contents[name]).hexdigest()}")
        for name, shape in zip(NAMES, SHAPES, strict=True)
    )
    return Source((one, two, three, four), mirrors)


@pytest.fixture(autouse=True)
def _no_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test sees the developer's own data, or writes outside its folder."""
    monkeypatch.delenv("INTFF_DATA_DIR", raising=False)
    monkeypatch.setenv("INTFF_HOME", str(tmp_path / "home"))


@pytest.fixture(autouse=True)
def mirrors(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Tiny data sets in place of the real ones; called, it says which addresses serve them."""

    def serve_from(*addresses: str) -> None:
        monkeypatch.setitem(SOURCES, "mnist", tiny(CONTENTS, *addresses))
        monkeypatch.setitem(SOURCES, "fashion_mnist", tiny(OTHERS, *addresses))

    serve_from("http://127.0.0.1:9/nobody/")  # the discard port: refused at once
    return serve_from


class Server:
    """A mirror on this machine: what it offers by path, and what it was asked for."""

    def __init__(self) -> None:
        self.offered: dict[str, bytes] = {}
        self.asked: list[str] = []
        self.cut_off = 0
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_HEAD(self) -> None:
                self.answer(with_body=False)

            def do_GET(self) -> None:
                outer.asked.append(self.path)
                self.answer(with_body=True)

            def answer(self, *, with_body: bool) -> None:
                body = outer.offered.get(self.path)
                self.send_response(404 if body is None else 200)
                self.send_header("Content-Length", str(len(body or b"")))
                self.end_headers()
                if with_body and body:
                    self.wfile.write(body[: len(body) - outer.cut_off])

            def log_message(self, *_: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True).start()

    def offer(self, folder: str, contents: dict[str, bytes]) -> str:
        self.offered.update({f"/{folder}/{name}.gz": gzip.compress(data) for name, data in contents.items()})
        return f"http://127.0.0.1:{self.http.server_port}/{folder}/"


@pytest.fixture
def server() -> Iterator[Server]:
    running = Server()
    yield running
    running.http.shutdown()
    running.http.server_close()


def write(folder: Path, contents: dict[str, bytes], *, zipped: bool = True) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in contents.items():
        (folder / f"{name}{'.gz' if zipped else ''}").write_bytes(gzip.compress(data) if zipped else data)
    return folder


def check(dataset: datasets.Dataset, first: int = 10) -> None:
    assert dataset.train_images.shape == (6, 1, 4, 4)
    assert dataset.test_images.shape == (3, 1, 4, 4)
    assert dataset.train_labels.tolist() == [first, first + 1, first + 2, first + 3, first + 4, first + 5]
    assert dataset.test_images.dtype == dataset.test_labels.dtype == np.uint8


# In the user's folder


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("place", ["mnist", "."])
def test_files_are_read_from_the_folder_given(tmp_path: Path, place: str, zipped: bool) -> None:
    folder = write(tmp_path / place, CONTENTS, zipped=zipped)
    dataset = datasets.load(Mnist(), data_dir=tmp_path)
    check(dataset)
    assert dataset.source == f"files in {folder}"
    assert dataset.labels == tuple("0123456789")


def test_the_folder_may_come_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "mnist", CONTENTS)
    monkeypatch.setenv("INTFF_DATA_DIR", str(tmp_path))
    check(datasets.load(Mnist()))


@pytest.mark.parametrize("name", ["fashion_mnist", "fashion-mnist"])
def test_fashion_mnist_is_found_under_both_spellings(tmp_path: Path, name: str) -> None:
    write(tmp_path / name, OTHERS)
    dataset = datasets.load(FashionMnist(), data_dir=tmp_path)
    check(dataset, 109)
    assert dataset.labels[9] == "Ankle boot"


def test_another_data_set_in_the_same_folder_is_not_taken_for_this_one(tmp_path: Path) -> None:
    write(tmp_path, CONTENTS)
    with pytest.raises(DatasetUnavailable, match="contains another data set's files"):
        datasets.load(FashionMnist(), data_dir=tmp_path)


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda data: gzip.compress(data)[:-10], "gzip data are damaged or truncated"),
        (lambda data: data[:-3], "it is truncated: expected 112 bytes, got 109"),
        (lambda data: data + b"x", "it is too long: expected 112 bytes"),
        (lambda _: b"<html>not found</html>", "begins with 00000803, this one with 3c68746d"),
        (lambda _: b"", "it is empty"),
        (lambda data: data[:-1] + b"\x00", "is not the published file: expected contents with the checksum sha256:"),
    ],
)
def test_a_damaged_file_is_named_with_the_remedy_and_kept(
    tmp_path: Path, damage: Callable[[bytes], bytes], says: str
) -> None:
    path = write(tmp_path / "mnist", CONTENTS, zipped=False) / NAMES[0]
    path.write_bytes(damage(CONTENTS[NAMES[0]]))
    before = path.read_bytes()
    with pytest.raises(DatasetCorrupt, match=says) as caught:
        datasets.load(Mnist(), data_dir=tmp_path)
    assert str(path) in str(caught.value)
    assert "replace it with the original, or remove it" in str(caught.value)
    assert path.read_bytes() == before


def test_a_folder_without_some_files_is_said_to_lack_them(tmp_path: Path) -> None:
    (write(tmp_path / "mnist", CONTENTS) / f"{NAMES[1]}.gz").unlink()
    with pytest.raises(DatasetUnavailable, match=f"mnist: lacks {NAMES[1]}\n"):
        datasets.load(Mnist(), data_dir=tmp_path)


# From the cache and the mirrors


def test_files_are_downloaded_once_and_then_cached(server: Server, mirrors: Callable[..., None]) -> None:
    mirrors(server.offer("good", CONTENTS))
    first = datasets.load(Mnist())
    check(first)
    assert first.source == f"downloaded from 127.0.0.1:{server.http.server_port}"
    assert len(server.asked) == 4
    second = datasets.load(Mnist())
    check(second)
    assert second.source == f"cache {files.cache_folder('mnist')}"
    assert len(server.asked) == 4
    assert sorted(path.name for path in files.cache_folder("mnist").iterdir()) == sorted(f"{name}.gz" for name in NAMES)


def test_the_cache_needs_no_network(tmp_path: Path) -> None:
    write(tmp_path / "home" / "data" / "mnist", CONTENTS)
    check(datasets.load(Mnist()))


def test_the_next_mirror_serves_what_the_first_does_not(server: Server, mirrors: Callable[..., None]) -> None:
    wrong = server.offer("wrong", {**CONTENTS, NAMES[2]: OTHERS[NAMES[2]]})
    mirrors("http://127.0.0.1:9/", f"{wrong}missing/", wrong, server.offer("good", CONTENTS))
    check(datasets.load(Mnist()))
    assert [path for path in server.asked if path.startswith("/good")] == [
        f"/good/{NAMES[2]}.gz",
        f"/good/{NAMES[3]}.gz",
    ]


def test_contents_count_and_not_how_they_were_compressed(server: Server, mirrors: Callable[..., None]) -> None:
    address = server.offer("good", CONTENTS)
    server.offered = {path: gzip.compress(gzip.decompress(data), 1, mtime=7) for path, data in server.offered.items()}
    mirrors(address)
    check(datasets.load(Mnist()))


def test_a_damaged_cache_file_is_downloaded_again(server: Server, mirrors: Callable[..., None]) -> None:
    mirrors(server.offer("good", CONTENTS))
    datasets.load(Mnist())
    path = files.cache_folder("mnist") / f"{NAMES[0]}.gz"
    path.write_bytes(path.read_bytes()[:-5])
    server.asked.clear()
    check(datasets.load(Mnist()))
    assert server.asked == [f"/good/{NAMES[0]}.gz"]


def test_a_download_that_breaks_off_leaves_nothing(server: Server, mirrors: Callable[..., None]) -> None:
    mirrors(server.offer("good", CONTENTS))
    server.cut_off = 20
    with pytest.raises(DatasetUnavailable, match=f"{NAMES[0]}.gz: "):
        datasets.load(Mnist())
    assert list(files.cache_folder("mnist").iterdir()) == []


def test_an_interrupted_download_leaves_nothing(
    server: Server, mirrors: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(_: Path) -> None:
        raise KeyboardInterrupt

    mirrors(server.offer("good", CONTENTS))
    monkeypatch.setattr(download, "_sync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        datasets.load(Mnist())
    assert list(files.cache_folder("mnist").iterdir()) == []


def test_what_a_killed_process_left_is_removed_in_time(
    tmp_path: Path, server: Server, mirrors: Callable[..., None]
) -> None:
    folder = write(tmp_path / "home" / "data" / "mnist", {})
    old, new = folder / ".old.part", folder / ".new.part"
    for part in (old, new):
        part.write_bytes(b"half")
    os.utime(old, (time.time() - 7200,) * 2)
    mirrors(server.offer("good", CONTENTS))
    check(datasets.load(Mnist()))
    assert not old.exists()
    assert new.exists()  # another process may be writing it


def test_several_processes_may_download_at_once(server: Server, mirrors: Callable[..., None], tmp_path: Path) -> None:
    address = server.offer("good", CONTENTS)
    mirrors(address)
    code = (
        f"import sys; sys.path[:0] = {[str(Path(__file__).parent)]!r}\n"
        "import test_datasets as here\n"
        f"here.SOURCES['mnist'] = here.tiny(here.CONTENTS, {address!r})\n"
        "here.check(here.datasets.load(here.Mnist()))\n"
    )
    running = [subprocess.Popen([sys.executable, "-c", code], env=os.environ.copy()) for _ in range(3)]
    assert [process.wait(60) for process in running] == [0, 0, 0]
    check(datasets.load(Mnist()))
    assert len(list((tmp_path / "home" / "data" / "mnist").iterdir())) == 4


def test_nothing_found_says_where_it_looked_and_what_helps(
    tmp_path: Path, server: Server, mirrors: Callable[..., None]
) -> None:
    mirrors("http://127.0.0.1:9/", "http://no.such.host.invalid/", server.offer("empty", {}))
    started = time.monotonic()
    with pytest.raises(DatasetUnavailable) as caught:
        datasets.load(Mnist(), data_dir=tmp_path / "data")
    assert time.monotonic() - started < 8
    assert str(caught.value).split("\n") == [
        "no copy of mnist was found, and it could not be downloaded",
        "looked in:",
        f"  {tmp_path}/data/mnist: no such folder",
        f"  {tmp_path}/data: no such folder",
        f"  {tmp_path}/home/data/mnist: lacks {', '.join(NAMES)}",
        "tried:",
        "  http://127.0.0.1:9/: connection refused",
        "  http://no.such.host.invalid/: its host name cannot be resolved",
        f"  http://127.0.0.1:{server.http.server_port}/empty/: does not offer the files",
        (
            "set INTFF_DATA_DIR to a folder that contains mnist/ with the four IDX files, gzipped or not; "
            "or use the data set digits, which needs no download"
        ),
    ]
    assert not (tmp_path / "home").exists()


def test_silent_mirrors_are_given_up_within_seconds(
    mirrors: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "_PROBE_SECONDS", 0.5)
    # Addresses set aside for documentation: nobody answers there, or the way there is refused at once.
    mirrors(*(f"http://192.0.2.{host}/" for host in range(1, 6)))
    started = time.monotonic()
    with pytest.raises(DatasetUnavailable):
        datasets.load(Mnist())
    assert time.monotonic() - started < 3


def test_a_cache_that_cannot_be_written_is_said_so(
    tmp_path: Path, server: Server, mirrors: Callable[..., None]
) -> None:
    (tmp_path / "home").write_text("a file where the folder should be")
    mirrors(server.offer("good", CONTENTS))
    with pytest.raises(DatasetUnavailable, match="home/data/mnist: cannot be written to"):
        datasets.load(Mnist())


def test_the_bar_goes_to_standard_error_and_only_when_asked_for(
    server: Server, mirrors: Callable[..., None], capfd: pytest.CaptureFixture[str]
) -> None:
    mirrors(server.offer("good", {**CONTENTS, **OTHERS}))
    datasets.load(FashionMnist())
    assert capfd.readouterr() == ("", "")
    mirrors(server.offer("good", CONTENTS))
    datasets.load(Mnist(), progress=True)
    output = capfd.readouterr()
    assert output.out == ""
    assert "train-images-idx3-ubyte: 100%" in output.err


# What is published


def test_every_file_of_every_source_can_be_verified_after_download() -> None:
    for source in SOURCES.values():
        assert tuple(file.name for file in source.files) == NAMES
        assert all(file.digest or file.archive for file in source.files)


def test_an_archive_counts_by_its_own_digest_where_its_contents_have_none() -> None:
    raw = gzip.compress(b"data", mtime=0)
    known = File("name", (1,), None, f"sha256:{hashlib.sha256(raw).hexdigest()}")
    assert known.is_verified(raw, b"data") is True
    assert known.is_verified(b"data", b"data") is None
    by_both = File("name", (1,), "md5:8d777f385d3dfec8815d20f7496026dc", known.archive)  # md5sum of "data"
    assert by_both.is_verified(b"data", b"data") is True
    assert by_both.is_verified(b"date", b"date") is False


def test_a_data_set_is_known_by_any_of_its_files() -> None:
    assert list(sources.kinds_of(CONTENTS[NAMES[3]])) == ["mnist"]
    assert list(sources.kinds_of(b"unknown")) == []


def test_plain_images_without_a_published_digest_are_taken_beside_labels_that_have_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two, three, four = tiny(CONTENTS).files
    undigested = Source((File(one.name, one.shape), two, File(three.name, three.shape), four), ())
    monkeypatch.setitem(SOURCES, "kmnist", undigested)
    folder = write(tmp_path / "kmnist", CONTENTS, zipped=False)
    check(datasets.load(Kmnist(), data_dir=tmp_path))
    (folder / NAMES[1]).write_bytes(OTHERS[NAMES[1]])
    with pytest.raises(DatasetCorrupt, match=NAMES[1]):
        datasets.load(Kmnist(), data_dir=tmp_path)
