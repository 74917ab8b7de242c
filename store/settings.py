"""Every setting of the project, read from environment variables once, and refused if invalid."""

from __future__ import annotations

import hashlib
import ipaddress
import os
import re
from difflib import get_close_matches
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import quote

from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from intff.spec import Limits
from store.errors import SettingsError
from store.urls import require_broker_url, require_database_url, without_password

_PREFIX = "INTFF_"
_OF_CLIENTS = ("INTFF_URL", "INTFF_API_KEY")
_OF_TESTS = ("INTFF_TEST_", "INTFF_LOAD_")
_SHORTEST_KEY = 16
_JOBS_PER_KEY = 1000
_HASHED = re.compile(r"sha256:[0-9a-f]{64}")
_MIB = 2**20

LONGEST_LEASE_SECONDS = 3600
"""The longest lease that can be configured."""


class Settings(BaseSettings):
    """The configuration of a process; each field's environment variable is its name with the prefix `INTFF_`."""

    model_config = SettingsConfigDict(
        env_prefix=_PREFIX, frozen=True, extra="forbid", env_ignore_empty=True, use_attribute_docstrings=True
    )

    home: Path = Path("~/.intff")
    """Where the embedded service keeps everything."""
    data_dir: Path | None = None
    """Where data set files are searched for before anything is downloaded."""
    database_url: str = ""
    """`sqlite:///...` or `postgresql://...`; if empty, `intff.db` in the home."""
    broker_url: str | None = None
    """`redis://...`, `rediss://...` or `redis+socket:///...`; if absent, `intff serve` starts a private Valkey."""
    artifacts_url: str = ""
    """A folder or any fsspec URL; if empty, `artifacts` in the home."""

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 8000
    api_keys: Annotated[tuple[str, ...], NoDecode] = Field(default=(), repr=False)
    """Keys, separated by commas; each in plain text or as `sha256:<hex>`. Only their SHA-256 hashes are kept.
    Keys created with `intff keys` are in the database instead."""
    rate_limit_per_second: Annotated[float, Field(ge=0, le=1_000_000)] = 500
    """Requests per second that one API process answers for one key, on average; 0 for no limit. A process
    can answer two to three times as many, so that one key's runaway loop leaves room for the others."""
    rate_limit_burst: Annotated[int, Field(ge=1, le=1_000_000)] = 1000
    """Requests that a key may send at once after a pause."""
    max_event_streams: Annotated[int, Field(ge=1, le=1_000_000)] = 1000
    """Event streams that one API process keeps open for one key: enough to watch every job that a key may have."""

    lease_seconds: Annotated[float, Field(gt=0, le=LONGEST_LEASE_SECONDS)] = 15
    """How long a silent worker keeps its job: long enough for a slow disk, short enough for whoever waits."""
    sweep_seconds: Annotated[float, Field(gt=0, le=3600)] = 5
    """Seconds between two sweeps for jobs whose worker went silent."""
    republish_seconds: Annotated[float, Field(gt=0, le=3600)] = 15
    """Seconds that a published job may stay unclaimed before its id is published again; doubled up to four times."""
    max_attempts: Annotated[int, Field(ge=1, le=100)] = 3
    """Attempts that a job may lose to silent workers before it fails."""
    worker_queues: Annotated[tuple[Literal["cpu", "gpu"], ...], NoDecode] = ()
    """Queues of this worker, separated by commas; if empty, those that its device can serve."""

    worker_threads: Annotated[int, Field(ge=1)] | None = None
    """Threads that a worker trains with; by default torch decides. The last bits of the weights depend on it."""

    max_parameters: Annotated[int, Field(ge=1)] = Limits().max_parameters
    max_memory_bytes: Annotated[int, Field(ge=_MIB)] = Limits().max_memory_bytes
    max_epochs: Annotated[int, Field(ge=1)] = 10_000
    max_body_bytes: Annotated[int, Field(ge=1024)] = 32 * _MIB
    """Per HTTP request; 1024 images of 28x28 as JSON numbers take about 4 MiB."""
    max_images: Annotated[int, Field(ge=1)] = 1024
    """Per prediction request."""
    max_image_pixels: Annotated[int, Field(ge=784)] = 16_000_000
    """Per image file, checked before it is decoded."""
    max_metadata_bytes: Annotated[int, Field(ge=2)] = 16_384
    max_queued_jobs: Annotated[int, Field(ge=1)] | None = None
    """Unfinished jobs that one owner may have; by default 1,000 per key, and no limit without keys."""

    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_json: bool = False

    @field_validator("api_keys", mode="before")
    @classmethod
    def _hash_keys(cls, value: Any) -> tuple[str, ...]:  # noqa: ANN401 -- pydantic hands over whatever arrived
        parts = [part.strip() for part in value.split(",")] if isinstance(value, str) else list(value)
        return tuple(dict.fromkeys(_hashed(part) for part in parts if part))

    @field_validator("worker_queues", mode="before")
    @classmethod
    def _split_queues(cls, value: Any) -> Any:  # noqa: ANN401 -- pydantic hands over whatever arrived
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @field_validator("log_level", mode="before")
    @classmethod
    def _lower(cls, value: Any) -> Any:  # noqa: ANN401 -- pydantic hands over whatever arrived
        return value.lower() if isinstance(value, str) else value

    @field_validator("home", "data_dir")
    @classmethod
    def _expand(cls, value: Path | None) -> Path | None:
        return value.expanduser().absolute() if value is not None else None

    @field_validator("database_url")
    @classmethod
    def _check_database(cls, value: str) -> str:
        if value:
            require_database_url(value)
        return value

    @field_validator("broker_url")
    @classmethod
    def _check_broker(cls, value: str | None) -> str | None:
        if value is not None:
            require_broker_url(value)
        return value

    @model_validator(mode="after")
    def _fill_in(self) -> Self:
        home = self.home.expanduser().absolute()
        derived = {
            "home": home,
            "database_url": self.database_url or f"sqlite:///{quote(str(home / 'intff.db'))}",
            "artifacts_url": self.artifacts_url or str(home / "artifacts"),
        }
        for name, value in derived.items():
            object.__setattr__(self, name, value)  # frozen for callers; this only completes the settings
        return self

    def limits(self) -> Limits:
        """What one training run may take."""
        return Limits(max_parameters=self.max_parameters, max_memory_bytes=self.max_memory_bytes)

    def most_queued_jobs(self, owner: str) -> int | None:
        """How many unfinished jobs an owner may have; None for no limit."""
        return self.max_queued_jobs or (_JOBS_PER_KEY if owner else None)

    def require_safe_bind(self, *, has_keys: bool = False) -> None:
        """Refuse to listen beyond this machine while no key is required.

        Args:
            has_keys: whether the database has ever had a key.

        Raises:
            SettingsError: the host is not loopback, and there are no API keys.
        """
        if not self.api_keys and not has_keys and not is_loopback(self.host):
            msg = (
                f"without API keys the service listens on loopback only, but INTFF_HOST is {self.host!r}; "
                "make a key with 'intff keys create NAME', set INTFF_API_KEYS, or INTFF_HOST=127.0.0.1"
            )
            raise SettingsError(msg)


def read_settings(**overrides: Any) -> Settings:  # noqa: ANN401 -- whatever the fields take
    """Read the environment.

    Raises:
        SettingsError: names every invalid variable, its value, and what would be valid.
    """
    try:
        return Settings(**overrides)
    except ValidationError as invalid:
        raise SettingsError("\n".join(_sentence(error) for error in invalid.errors())) from None


def misspelt_variables() -> dict[str, str]:
    """INTFF_ variables that nothing reads, each with the known name that is closest."""
    known = [f"{_PREFIX}{field.upper()}" for field in Settings.model_fields] + list(_OF_CLIENTS)
    unknown = [name for name in os.environ if name.startswith(_PREFIX) and not name.startswith(_OF_TESTS)]
    return {name: get_close_matches(name, known, 1, 0)[0] for name in sorted(unknown) if name not in known}


@lru_cache(maxsize=64)  # called for every request
def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a server that listens there."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False  # any other name may resolve to anything


def _hashed(key: str) -> str:
    if _HASHED.fullmatch(key):
        return key.removeprefix("sha256:")
    if len(key) < _SHORTEST_KEY:
        msg = f"a key needs at least {_SHORTEST_KEY} characters, got one of {len(key)}"
        raise ValueError(msg)
    return hashlib.sha256(key.encode()).hexdigest()


def _sentence(error: Any) -> str:  # noqa: ANN401 -- one entry of ValidationError.errors()
    field = str(error["loc"][0]) if error["loc"] else ""
    given = without_password(error["input"]) if isinstance(error["input"], str) else error["input"]
    shown = "" if field == "api_keys" else f", got {given!r}"
    return f"{_PREFIX}{field.upper()}: {error['msg'].removeprefix('Value error, ')}{shown}"
