"""Everything predawn raises on purpose.

PredawnError
├── ConfigError          a setting is wrong; the server does not start
├── SnapshotError        a model directory is damaged, half written or of another kind
├── RequestError         the caller's fault: answered 4xx with field and reason, nothing changed
│   ├── BadRequest       400  malformed or invalid body
│   ├── UnknownName      404  no such ranker or model; names the nearest
│   ├── Conflict         409  not possible now: nothing is staged, or a load is under way
│   ├── BodyTooLarge     413
│   └── LoadFailed       422  a new version of a model cannot serve
├── Overloaded           429 with Retry-After
├── Unavailable          503  starting or draining
├── DeadlineExceeded     504  nothing can be served by the deadline
└── InferenceError       a model failed; the request is answered from failover or default
    └── EngineLost       the process of the models is gone, and is being started again
"""

import difflib
from collections.abc import Iterable


class PredawnError(Exception):
    """Base of the tree: catch it to catch whatever predawn raises on purpose."""


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name most like `name`, or None when nothing is close."""
    found = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return found[0] if found else None


class ConfigError(PredawnError):
    """A setting is wrong. `field` is its dotted path, `reason` says what to do."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"{field}: {reason}")
        self.field = field
        self.reason = reason


class SnapshotError(PredawnError):
    """A snapshot directory cannot be used. `path` is the file or directory at fault."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = path
        self.reason = reason


class RequestError(PredawnError):
    """The caller's fault. `field` is the JSON path of the value at fault ("" for the body)."""

    status = 400

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"{field}: {reason}" if field else reason)
        self.field = field
        self.reason = reason


class BadRequest(RequestError):
    """400: malformed or invalid body."""


class UnknownName(RequestError):
    """404: no ranker or model of that name; the reason lists the nearest known one."""

    status = 404

    def __init__(self, field: str, name: str, known: Iterable[str]) -> None:
        known = sorted(known)
        near = nearest(name, known)
        hint = f"did you mean {near!r}?" if near else f"known: {', '.join(known) or 'none'}"
        super().__init__(field, f"unknown name {name!r}; {hint}")


class Conflict(RequestError):
    """409: cannot be done in the state things are in; the reason says what would help."""

    status = 409


class LoadFailed(RequestError):
    """422: a new version of a model is damaged, does not fit or fails; `field` is its setting."""

    status = 422


class BodyTooLarge(RequestError):
    """413: the body is longer than `server.body_limit`."""

    status = 413


class Overloaded(PredawnError):
    """429: the queue in front of the engine is full. `retry_after_s` is a jittered hint."""

    status = 429

    def __init__(self, reason: str, retry_after_s: float) -> None:
        super().__init__(reason)
        self.retry_after_s = retry_after_s


class Unavailable(PredawnError):
    """503: the server is starting or draining."""

    status = 503


class DeadlineExceeded(PredawnError):
    """The deadline passed. In the batcher: dropped before compute. At the door: 504."""

    status = 504


class InferenceError(PredawnError):
    """A model raised, returned a wrong shape or dtype, or a row that is not finite."""

    def __init__(self, model: str, reason: str) -> None:
        super().__init__(f"model {model!r}: {reason}")
        self.model = model
        self.reason = reason


class EngineLost(InferenceError):
    """The process of the models ended, with this batch or before it; it is started again."""
