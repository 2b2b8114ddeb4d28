"""`python -m predawn.bench.fuzz`: damaged bodies against a running server, and what they did.

Every body must be answered, none with a 5xx, and the server's memory must stay flat. Prints one
JSON object {"bodies","status":{code: count},"rss_mib_before","rss_mib_after"}; status 0 counts
requests without an answer. Exit code 1 where there was one, or a 5xx.
"""

import argparse
import asyncio
import json
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass

import aiohttp

from predawn.bench import scrape
from predawn.bench.fuzz_bodies import requests

_WARM_UP = 2_000
"""Bodies before memory is first read: pools and caches have their size by then."""
_ANSWER_S = 30.0


@dataclass(frozen=True, slots=True)
class FuzzReport:
    """status: HTTP status or "0" (no answer) -> requests; memory of the server process."""

    bodies: int
    status: dict[str, int]
    rss_mib_before: float
    rss_mib_after: float

    @property
    def sound(self) -> bool:
        """Everything was answered and nothing with a 5xx."""
        return not any(code == "0" or code.startswith("5") for code in self.status)


async def fuzz(url: str, bodies: int, seed: int, connections: int) -> FuzzReport:
    """Sends `bodies` damaged bodies over `connections` connections, as fast as answers come."""
    timeout = aiohttp.ClientTimeout(total=_ANSWER_S)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        await _send_all(session, url, requests(min(bodies, _WARM_UP), seed + 1), connections)
        before = await _resident_mib(session, url)
        status = await _send_all(session, url, requests(bodies, seed), connections)
        after = await _resident_mib(session, url)
    told = {str(code): status[code] for code in sorted(status)}
    return FuzzReport(bodies, told, round(before, 1), round(after, 1))


async def _send_all(
    session: aiohttp.ClientSession, url: str, todo: Iterator[tuple[str, bytes]], connections: int
) -> Counter[int]:
    status: Counter[int] = Counter()

    async def worker() -> None:
        for path, body in todo:  # shared: each takes the next
            status[await _send(session, url + path, body)] += 1

    await asyncio.gather(*(worker() for _ in range(connections)))
    return status


async def _send(session: aiohttp.ClientSession, url: str, body: bytes) -> int:
    headers = {"content-type": "application/json"}
    try:
        async with session.post(url, data=body, headers=headers) as reply:
            await reply.read()
            return reply.status
    except (aiohttp.ClientError, TimeoutError):
        return 0


async def _resident_mib(session: aiohttp.ClientSession, url: str) -> float:
    async with session.get(url + "/metrics") as reply:
        metrics = scrape.parse(await reply.read())
    return metrics.total("predawn_process_resident_memory_bytes") / 2**20


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="predawn.bench.fuzz", description=__doc__)
    parser.add_argument("--bodies", type=int, default=100_000)
    parser.add_argument("--url", default="http://127.0.0.1:8471", help="of the running server")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--connections", type=int, default=16)
    given = parser.parse_args(arguments)
    url = given.url.rstrip("/")
    report = asyncio.run(fuzz(url, given.bodies, given.seed, given.connections))
    print(json.dumps(asdict(report)))
    return 0 if report.sound else 1


if __name__ == "__main__":
    sys.exit(main())
