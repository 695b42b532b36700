"""What the store refuses, in words and by kind; the web app turns the kind into a status, the command line into a code.

StoreError                 DataError
|-- NotFound               there is no such project, task, assignment, user, ...
|-- NotAllowed             it exists, and is not this person's to see or change
|-- Conflict               it contradicts what is stored already (same key with another body, handle taken, ...)
|-- Invalid                the values make no sense for this task (a position it does not have, a missing rationale)
|-- TooMany                a cap is reached: open leases, labels a day
`-- Busy                   the database is locked or does not answer; nothing was stored
"""

from __future__ import annotations

from accord.errors import DataError


class StoreError(DataError):
    """Base of what the store refuses; never raised itself."""

    code = "refused"


class NotFound(StoreError):  # noqa: N818  (the kind is the name)
    """There is no such thing."""

    code = "not_found"


class NotAllowed(StoreError):  # noqa: N818  (the kind is the name)
    """It exists, and is not this person's to see or change."""

    code = "not_allowed"


class Conflict(StoreError):  # noqa: N818  (the kind is the name)
    """It contradicts what is stored already."""

    code = "conflict"


class Invalid(StoreError):  # noqa: N818  (the kind is the name)
    """The values make no sense for this task."""

    code = "invalid"


class TooMany(StoreError):  # noqa: N818  (the kind is the name)
    """A cap is reached."""

    code = "too_many"


class Busy(StoreError):  # noqa: N818  (the kind is the name)
    """The database is locked or does not answer; nothing was stored."""

    code = "unavailable"
