"""What can go wrong with a request, and what to do about it.

ClusterError
├── Conflict    the object changed since it was read: read again and decide again
├── AlreadyExists  an object of this name is there: look whether it is ours
├── NotFound    the object is gone
├── Temporary   the cluster cannot serve now, or its answer was lost: try again after a pause
│   └── Unreachable  the request was not even sent: it changed nothing
└── Permanent   the cluster refuses this request: trying the same again is no use

StoreError
├── NoSuchObject   the object is not there
│   └── Replaced   there is another object than the one that was asked for
└── StoreDown      the object store cannot serve now: try again after a pause
    └── Refused    it is there and says no: trying the same again is seldom any use
"""


class ClusterError(Exception):
    """A request to the Kubernetes API failed."""


class Conflict(ClusterError):  # noqa: N818
    """The object changed since it was read; read it again and decide again."""


class AlreadyExists(ClusterError):  # noqa: N818
    """An object of this name is there already; look whether it is ours."""


class NotFound(ClusterError):  # noqa: N818
    """The object is not there (any more)."""


class Temporary(ClusterError):  # noqa: N818
    """The cluster cannot serve the request now; try again after a pause."""


class Unreachable(Temporary):
    """The request did not reach the cluster, so it changed nothing; try again after a pause."""


class Permanent(ClusterError):  # noqa: N818
    """The cluster refuses the request for good; the message says why."""


class StoreError(Exception):
    """A request to the object store failed."""


class NoSuchObject(StoreError):  # noqa: N818
    """The object is not there."""


class Replaced(NoSuchObject):
    """The object is there, but its ETag is not the one that was asked for."""


class StoreDown(StoreError):  # noqa: N818
    """The object store cannot serve now; try again after a pause."""


class Refused(StoreDown):
    """The object store is there and says no; its answer is in the message."""


def store_error(status: int, sentence: str) -> StoreError:
    """Return what an object store's answer of *status*, 300 or more, is as an error."""
    if status == 404:
        return NoSuchObject(sentence)
    if status == 412:
        return Replaced(sentence)
    # What stands before a server says these for it.
    return StoreDown(sentence) if status in {502, 503, 504} else Refused(sentence)
