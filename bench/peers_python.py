"""What Python users have instead, behind one shape: filled once, then asked for batches of keys.

Each is used in the fastest way found for it that gives one float32 array. None is a dependency
(`pip install predawn[peers]` has them): `absent` says why one is not there.
"""

import importlib
import importlib.util
import shutil
import subprocess
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from predawn.bench.store_tables import scratch
from predawn.server.request import F32

_KEEP_S = 3600
_PART = 1_000

Read = Callable[[list[int]], F32]


@dataclass(frozen=True, slots=True)
class Peers:
    """readers: by the peer's name; absent: name -> why."""

    readers: dict[str, Read] = field(default_factory=dict[str, Read])
    absent: dict[str, str] = field(default_factory=dict[str, str])


_CACHES: Mapping[str, tuple[str, Callable[[Any, int], Any]]] = {
    "cachebox": ("cachebox", lambda module, size: module.TTLCache(size, _KEEP_S)),
    "cachetools": ("cachetools", lambda module, size: module.TTLCache(maxsize=size, ttl=_KEEP_S)),
    "lru-dict": ("lru", lambda module, size: module.LRU(size)),
    "moka-py": ("moka_py", lambda module, size: module.Moka(size, ttl=_KEEP_S)),
}


@contextmanager
def opened(ids: Sequence[int], rows: F32) -> Generator[Peers, None, None]:
    """All peers that this machine can show, each holding rows[i] under ids[i]."""
    peers = Peers()
    with ExitStack() as stack:
        for name, (module, factory) in _CACHES.items():
            found = _module(module)
            if found is None:
                peers.absent[name] = f"no module {module}"
                continue
            peers.readers[name] = _of_rows(factory(found, len(ids) + 1), ids, rows)
            if name == "cachebox":
                peers.readers["cachebox of bytes"] = _of_bytes(
                    factory(found, len(ids) + 1), ids, rows
                )
        folder = stack.enter_context(scratch())
        _add_lmdb(peers, stack, folder, ids, rows)
        _add_redis(peers, stack, folder, ids, rows)
        yield peers


def _module(name: str) -> ModuleType | None:
    return importlib.import_module(name) if importlib.util.find_spec(name) else None


def _set(cache: Any) -> Callable[[int, object], None]:
    write: Callable[[int, object], None] = getattr(cache, "set", None) or cache.__setitem__
    return write


def _get(cache: Any) -> Callable[[int], Any]:
    read: Callable[[int], Any] = getattr(cache, "__getitem__", None) or cache.get
    return read


def _of_rows(cache: Any, ids: Sequence[int], rows: F32) -> Read:
    """Values are arrays: what a user of numpy puts into a cache."""
    write, get = _set(cache), _get(cache)
    for key, row in zip(ids, rows, strict=True):
        write(key, row)
    dim = rows.shape[1]
    out = np.empty(0, np.float32)

    def read(keys: list[int]) -> F32:
        nonlocal out
        if len(out) != len(keys) * dim:
            out = np.empty(len(keys) * dim, np.float32)
        return np.concatenate([get(key) for key in keys], out=out).reshape(-1, dim)

    return read


def _of_bytes(cache: Any, ids: Sequence[int], rows: F32) -> Read:
    """Values are bytes, joined and looked at as an array: the fastest that Python's objects can."""
    write, get = _set(cache), _get(cache)
    for key, row in zip(ids, rows, strict=True):
        write(key, row.tobytes())
    dim = rows.shape[1]
    return lambda keys: _array(map(get, keys), dim)


def _array(values: Any, dim: int) -> F32:
    return np.frombuffer(b"".join(values), np.float32).reshape(-1, dim)


def _add_lmdb(peers: Peers, stack: ExitStack, folder: Path, ids: Sequence[int], rows: F32) -> None:
    lmdb: Any = _module("lmdb")
    if lmdb is None:
        peers.absent["lmdb"] = "no module lmdb"
        return
    size = 2 * rows.nbytes + 2**27
    database = lmdb.open(str(folder / "lmdb"), map_size=size, sync=False, metasync=False)
    stack.callback(database.close)
    with database.begin(write=True) as writing:
        for key, row in zip(ids, rows, strict=True):
            writing.put(_packed(key), row.tobytes())
    reading = stack.enter_context(database.begin(buffers=True))
    get, dim = reading.get, rows.shape[1]
    peers.readers["lmdb"] = lambda keys: _array([get(_packed(key)) for key in keys], dim)


def _packed(key: int) -> bytes:
    return key.to_bytes(8, "little")


def _add_redis(peers: Peers, stack: ExitStack, folder: Path, ids: Sequence[int], rows: F32) -> None:
    redis: Any = _module("redis")
    server = shutil.which("redis-server")
    if redis is None or server is None or _module("hiredis") is None:
        why = "no redis-server" if server is None else "no modules redis and hiredis"
        peers.absent["redis-mget"] = why
        return
    client = stack.enter_context(_redis(redis, server, folder))
    for start in range(0, len(ids), _PART):
        part = zip(ids[start : start + _PART], rows[start : start + _PART], strict=True)
        client.mset({_packed(key): row.tobytes() for key, row in part})
    dim = rows.shape[1]
    peers.readers["redis-mget"] = lambda keys: _array(client.mget(map(_packed, keys)), dim)


@contextmanager
def _redis(redis: Any, server: str, folder: Path) -> Generator[Any, None, None]:
    """A client of a server of its own on a socket in `folder`, without persistence."""
    socket = folder / "redis.sock"
    arguments = ["--port", "0", "--unixsocket", str(socket), "--save", "", "--appendonly", "no"]
    process = subprocess.Popen(
        [server, *arguments, "--dir", str(folder)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    retry = redis.retry.Retry(redis.backoff.ConstantBackoff(0.05), 200)
    client = redis.Redis(
        unix_socket_path=str(socket), retry=retry, retry_on_error=[redis.ConnectionError]
    )
    try:
        client.ping()
        yield client
    finally:
        client.close()
        process.terminate()
        process.wait(timeout=20)
