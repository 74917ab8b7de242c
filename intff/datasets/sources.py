"""The IDX data sets: their files with checksums, and the mirrors that serve them.

A file is identified by its contents, because the gzip compression differs between mirrors.

- MNIST: the SHA-256 of the contents in the original distribution.
- Fashion-MNIST: the MD5 of the contents, since no SHA-256 of them is published; also the
  SHA-256 of the publisher's own `.gz`.
- Kuzushiji-MNIST: the SHA-256 of the publisher's `.gz`. Of the contents, only the labels' MD5
  is published consistently; uncompressed images are accepted if their shape is exact and
  they come with matching labels.

A download is accepted only when one of its digests matches.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

Kind = Literal["mnist", "fashion_mnist", "kmnist"]

_TRAIN, _TEST, _PIXELS = 60_000, 10_000, (28, 28)


@dataclass(frozen=True)
class File:
    """One IDX file of a data set."""

    name: str
    shape: tuple[int, ...]
    digest: str | None = None
    """Checksum of the uncompressed contents, `sha256:...` or `md5:...`"""
    archive: str | None = None
    """Checksum of the publisher's gzip file, `sha256:...`"""

    def is_verified(self, raw: bytes, contents: bytes) -> bool | None:
        """Whether this is the published file; None if no checksum of its contents is known."""
        if self.archive and _digest(raw, self.archive) == self.archive:
            return True
        return _digest(contents, self.digest) == self.digest if self.digest else None


@dataclass(frozen=True)
class Source:
    """One data set: its four files, and the base URLs of mirrors that serve them."""

    files: tuple[File, File, File, File]
    """Training images, training labels, test images, test labels"""
    mirrors: tuple[str, ...]


def _files(digests: tuple[str | None, ...], archives: tuple[str | None, ...]) -> tuple[File, File, File, File]:
    return (
        File("train-images-idx3-ubyte", (_TRAIN, *_PIXELS), digests[0], archives[0]),
        File("train-labels-idx1-ubyte", (_TRAIN,), digests[1], archives[1]),
        File("t10k-images-idx3-ubyte", (_TEST, *_PIXELS), digests[2], archives[2]),
        File("t10k-labels-idx1-ubyte", (_TEST,), digests[3], archives[3]),
    )


SOURCES: dict[Kind, Source] = {
    "mnist": Source(
        files=_files(
            digests=(
                "sha256:ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
                "sha256:65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
                "sha256:0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
                "sha256:ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
            ),
            archives=(None, None, None, None),
        ),
        mirrors=(
            "https://ossci-datasets.s3.amazonaws.com/mnist/",
            "https://storage.googleapis.com/cvdf-datasets/mnist/",
            "https://raw.githubusercontent.com/fgnt/mnist/master/",
        ),
    ),
    "fashion_mnist": Source(
        files=_files(
            digests=(
                "md5:f4a8712d7a061bf5bd6d2ca38dc4d50a",
                "md5:9018921c3c673c538a1fc5bad174d6f9",
                "md5:8181f5470baa50b63fa0f6fddb340f0a",
                "md5:15d484375f8d13e6eb1aabb0c3f46965",
            ),
            archives=(
                "sha256:3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
                "sha256:a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
                "sha256:346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
                "sha256:67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
            ),
        ),
        mirrors=(
            "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
            "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
            "https://storage.googleapis.com/tensorflow/tf-keras-datasets/",
        ),
    ),
    "kmnist": Source(
        files=_files(
            digests=(
                None,
                "md5:949e75301f8813e0dc5800dcc320fc52",
                None,
                "md5:9f55f451c0988b028eccdf7d5cc265ab",
            ),
            archives=(
                "sha256:51467d22d8cc72929e2a028a0428f2086b092bb31cfb79c69cc0a90ce135fde4",
                "sha256:e38f9ebcd0f3ebcdec7fc8eabdcdaef93bb0df8ea12bee65224341c8183d8e17",
                "sha256:edd7a857845ad6bb1d0ba43fe7e794d164fe2dce499a1694695a792adfac43c5",
                "sha256:20bb9a0ef54c7db3efc55a92eef5582c109615df22683c380526788f98e42a1c",
            ),
        ),
        mirrors=(
            "https://codh.rois.ac.jp/kmnist/dataset/kmnist/",
            "http://codh.rois.ac.jp/kmnist/dataset/kmnist/",
        ),
    ),
}


def kinds_of(contents: bytes) -> Iterator[Kind]:
    """Yield the data sets that have a file with exactly these contents."""
    for kind, source in SOURCES.items():
        if any(file.digest and _digest(contents, file.digest) == file.digest for file in source.files):
            yield kind


def _digest(data: bytes, like: str) -> str:
    algorithm = like.partition(":")[0]
    return f"{algorithm}:{hashlib.new(algorithm, data, usedforsecurity=False).hexdigest()}"
