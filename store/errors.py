"""Every error that the store raises on purpose.

IntffError
└── StoreError
    ├── SettingsError        an invalid environment variable
    ├── SchemaUnknown        a database whose version this program does not know
    ├── NotFound             no such job, model, alias or key, or it is another owner's
    ├── Conflict             an operation that the current state does not allow
    ├── QuotaExceeded        more unfinished jobs than one owner may have
    ├── BrokerUnavailable    the broker could not be reached in time
    ├── ArtifactMissing      a recorded file does not exist
    ├── ArtifactCorrupt      a file does not match its record
    └── ArtifactsUnavailable the artifact store did not answer for too long
"""

from __future__ import annotations

from intff.errors import IntffError


class StoreError(IntffError):
    """Base of the store's errors; never raised itself."""

    code = "store_error"


class SettingsError(StoreError, ValueError):
    """An invalid setting, or two that contradict each other."""

    code = "invalid_settings"


class SchemaUnknown(StoreError):
    """The database has a version that this program does not know."""

    code = "schema_unknown"


class NotFound(StoreError):
    """There is no such job, model, alias or key among those that the caller may see."""

    code = "not_found"


class Conflict(StoreError):
    """An operation that the current state does not allow; `code` says which rule forbids it."""

    code = "conflict"

    def __init__(self, message: str, code: str | None = None) -> None:
        super().__init__(message)
        if code is not None:
            self.code = code  # type: ignore[misc]  # more specific than the class's default


class QuotaExceeded(StoreError):
    """The owner already has as many unfinished jobs as allowed."""

    code = "quota_exceeded"


class BrokerUnavailable(StoreError):
    """The broker did not accept a message in time; the reconciler publishes it later."""

    code = "broker_unavailable"


class ArtifactMissing(StoreError):
    """A recorded file does not exist in the artifact store."""

    code = "artifact_missing"


class ArtifactCorrupt(StoreError):
    """A file's SHA-256 is not the recorded one."""

    code = "artifact_corrupt"


class ArtifactsUnavailable(StoreError):
    """The artifact store did not answer for too long."""

    code = "artifacts_unavailable"
