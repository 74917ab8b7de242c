"""Every error that the store raises on purpose.

IntffError
└── StoreError
    ├── SettingsError        a variable of the environment that makes no sense
    ├── SchemaUnknown        a database of a version that this program does not know
    ├── NotFound             no such job, model, alias or key, or it is another owner's
    ├── Conflict             a move that the job's state does not allow
    ├── QuotaExceeded        more unfinished jobs than one owner may have
    ├── BrokerUnavailable    the queue could not be reached in time
    ├── ArtifactMissing      a file that a record names is not there
    ├── ArtifactCorrupt      a file is there but is not what was recorded
    └── ArtifactsUnavailable the store of files stays away
"""

from __future__ import annotations

from intff.errors import IntffError


class StoreError(IntffError):
    """Base of the store's errors; never raised itself."""

    code = "store_error"


class SettingsError(StoreError, ValueError):
    """A setting that makes no sense, or two that do not go together."""

    code = "invalid_settings"


class SchemaUnknown(StoreError):
    """The database is of a version that this program does not know."""

    code = "schema_unknown"


class NotFound(StoreError):
    """There is no such job, model, alias or key among those that the caller may see."""

    code = "not_found"


class Conflict(StoreError):
    """A move that the present state does not allow; `code` says which rule stands against it."""

    code = "conflict"

    def __init__(self, message: str, code: str | None = None) -> None:
        super().__init__(message)
        if code is not None:
            self.code = code  # type: ignore[misc]  # the class has its default; this one is more exact


class QuotaExceeded(StoreError):
    """The owner already has as many unfinished jobs as allowed."""

    code = "quota_exceeded"


class BrokerUnavailable(StoreError):
    """The broker did not take a message in time; the reconciler publishes it later."""

    code = "broker_unavailable"


class ArtifactMissing(StoreError):
    """A file that a record names is not in the artifact store."""

    code = "artifact_missing"


class ArtifactCorrupt(StoreError):
    """A file's SHA-256 is not the recorded one."""

    code = "artifact_corrupt"


class ArtifactsUnavailable(StoreError):
    """The artifact store did not answer for too long."""

    code = "artifacts_unavailable"
