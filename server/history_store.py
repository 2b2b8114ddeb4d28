"""User records in LMDB: one key per user, one value per record, one transaction per group.

Invariant: what `write` returned from is found by every later read of every process, also after a
kill -9 of the writer; what it raised from has changed nothing. Blocking; safe from any thread
(LMDB lets one writer in at a time, and readers never wait).

Keys: kind byte, then 8 bytes big-endian (integer ids) or UTF-8 (string ids): the two never meet.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import lmdb

from predawn.server.errors import ConfigError, Unavailable
from predawn.server.history_record import FORMAT, USER_BYTES_LIMIT, Events, RecordLayout
from predawn.server.request import UserBatch, UserId

_INTEGER, _STRING = b"\0", b"\1"
_PAGE_BYTES = 4096
_CHUNK = 256  # keys a read: short enough for the event loop
_META = b"meta"
_FOREIGN = "holds something else than a history of predawn; name an empty directory"


def key_of(user: UserId) -> bytes:
    """The LMDB key of a user id."""
    if isinstance(user, int):
        return _INTEGER + user.to_bytes(8, "big")
    return _STRING + user.encode()


def user_of(key: bytes) -> UserId:
    """The user id of an LMDB key."""
    return int.from_bytes(key[1:], "big") if key[:1] == _INTEGER else key[1:].decode()


class EventStore:
    """An open environment. ConfigError (`history.path`, `history.types`, ...) if it cannot be."""

    def __init__(self, path: Path, layout: RecordLayout, size_limit: int, power_safe: bool) -> None:
        self._path = path
        self._layout = layout
        self._size_limit = size_limit
        self._env = _open(path, size_limit, power_safe)
        try:
            self._env.reader_check()  # frees the slots of readers that were killed
            self._users = self._prepare()
        except lmdb.Error as error:
            self._env.close()
            raise ConfigError("history.path", f"{path}: {error}") from error
        except BaseException:
            self._env.close()
            raise

    def write(self, groups: Iterable[Events]) -> None:
        """Applies the groups in order, in one transaction. Unavailable: nothing was changed."""
        try:
            with self._env.begin(db=self._users, write=True) as txn:
                records: dict[UserId, bytearray] = {}
                for events in groups:
                    self._load(txn, events, records)
                    self._layout.apply(events, records)
                for user, record in records.items():
                    txn.put(key_of(user), record)
        except lmdb.MapFullError as error:
            reason = f"the event store is full at {self._size_limit} bytes; raise it and restart"
            raise Unavailable(f"history.size_limit: {reason}") from error
        except lmdb.Error as error:
            raise Unavailable(f"history.path: {self._path}: {error}") from error

    def gather(self, users: Sequence[UserId]) -> UserBatch:
        """What a user model sees of `users`, from one consistent state of the store."""
        size, nothing, resized = self._layout.size, self._layout.nothing, self._layout.resized
        try:
            with self._env.begin(db=self._users, buffers=True) as txn:
                get = txn.get
                # An id over the limit was never stored, and LMDB refuses to look for it whole.
                found = [get(key_of(user)[: USER_BYTES_LIMIT + 2]) for user in users]
                whole = [nothing if raw is None else raw for raw in found]
                records = b"".join([raw if len(raw) == size else resized(raw) for raw in whole])
        except lmdb.Error as error:
            raise Unavailable(f"history.path: {self._path}: {error}") from error
        return self._layout.batch(users, records)

    def users(self) -> Iterator[UserId]:
        """All users in order of key; a read transaction per chunk, so that a slow sweep does not
        keep LMDB from reusing pages. Users added meanwhile may or may not be seen."""
        after = b""
        while chunk := self._keys(after):
            yield from map(user_of, chunk)
            after = chunk[-1]

    def count_users(self) -> int:
        """How many users have a record."""
        with self._env.begin() as txn:
            return int(txn.stat(self._users)["entries"])

    def close(self) -> None:
        """Writes through to the disk and closes; the store cannot be used any more."""
        self._env.sync(True)
        self._env.close()

    def _load(
        self, txn: lmdb.Transaction, events: Events, records: dict[UserId, bytearray]
    ) -> None:
        touched = {*events.users, *(user for user, _ in events.attributes)}
        for user in touched - records.keys():
            raw = txn.get(key_of(user), default=self._layout.nothing)
            fits = len(raw) == self._layout.size
            records[user] = bytearray(raw if fits else self._layout.resized(raw))

    def _keys(self, after: bytes) -> list[bytes]:
        with self._env.begin(db=self._users) as txn, txn.cursor() as cursor:
            # The smallest key behind `after` is `after` and a zero byte.
            if not cursor.set_range(after + b"\0" if after else b"\0"):
                return []
            return list(islice(cursor.iternext(keys=True, values=False), _CHUNK))

    def _prepare(self) -> lmdb._Database:
        """Creates or checks the store in one transaction: no half-made one can be left behind.

        It remembers what its bits and numbers mean. Types may be added at the end; `length` may
        change freely (a record says its own by its size).
        """
        ours = {
            "format": FORMAT,
            "types": self._layout.types,
            "attributes": self._layout.attributes,
        }
        with self._env.begin(write=True) as txn:
            if txn.stat()["entries"] and not txn.cursor().set_key(_META):
                raise ConfigError("history.path", f"{self._path}: {_FOREIGN}")
            meta = self._env.open_db(_META, txn=txn)
            stored = txn.get(_META, db=meta)
            if stored is not None:
                _compare(json.loads(stored), self._layout, self._path)
            wanted = json.dumps(ours).encode()
            if stored != wanted:
                txn.put(_META, wanted, db=meta)
            return self._env.open_db(b"users", txn=txn)


def _open(path: Path, size_limit: int, power_safe: bool) -> lmdb.Environment:
    # Without sync a commit is still pwrite(2) of the pages, then of the page that points to them:
    # both are the kernel's once the call returns, and a process that is killed takes nothing of
    # that along. Readers see the old root or the new one. Only the kernel's own end (power loss,
    # panic) can lose or, on file systems that reorder writes, damage the store.
    # The map is not written through (writemap): a stray pointer cannot damage the store.
    try:
        path.mkdir(parents=True, exist_ok=True)
        return lmdb.open(
            str(path),
            map_size=-(-size_limit // _PAGE_BYTES) * _PAGE_BYTES,
            sync=power_safe,
            metasync=power_safe,
            max_dbs=4,
            max_readers=512,
        )
    except (lmdb.InvalidError, lmdb.VersionMismatchError) as error:
        raise ConfigError("history.path", f"{path}: {_FOREIGN} ({error})") from error
    except (lmdb.Error, OSError) as error:
        raise ConfigError("history.path", f"{path}: {error}") from error


def _compare(stored: dict[str, Any], layout: RecordLayout, path: Path) -> None:
    other = "name another history.path"
    if stored["format"] != FORMAT:
        reason = f"{path} has format {stored['format']!r}, this version reads {FORMAT}; {other}"
        raise ConfigError("history.path", reason)
    types, attributes = stored["types"], stored["attributes"]
    if list(layout.types[: len(types)]) != types:
        reason = f"{path} was written with {types}, which {list(layout.types)} does not extend"
        raise ConfigError("history.types", f"{reason}; {other}")
    if list(layout.attributes) != attributes:
        reason = f"{path} was written with {attributes}, not {list(layout.attributes)}"
        raise ConfigError("history.attributes", f"{reason}; {other}")
