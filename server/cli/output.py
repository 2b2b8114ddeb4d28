"""What commands print: one JSON document (or lines) for machines, tables for people, never mixed.

With `--json -` standard output carries JSON alone and people's text goes to standard error.
"""

import contextlib
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import orjson

from predawn.server.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from rich.console import Console

_PIPE_COLUMNS = 160
_OPTIONS = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_APPEND_NEWLINE


class Output:
    """The two channels of one command. target: of `--json`, a path, "-" or None."""

    def __init__(self, target: str | None) -> None:
        self._target = target

    @property
    def console(self) -> "Console":
        """Where tables go."""
        from rich.console import Console

        stream = sys.stderr if self._target == "-" else sys.stdout
        # A file or pipe has no width: wide enough that no table loses a column.
        width = None if stream.isatty() else _PIPE_COLUMNS
        return Console(file=stream, highlight=False, width=width)

    def document(self, document: object) -> None:
        """Writes one JSON object, if asked for. NaN becomes null."""
        self.lines([document])

    def lines(self, rows: Iterable[object]) -> None:
        """Writes a JSON object a line, if asked for."""
        self.text(b"".join(orjson.dumps(row, option=_OPTIONS) for row in rows))

    def text(self, text: bytes) -> None:
        """Writes finished JSON, if asked for."""
        if self._target is None:
            return
        if self._target == "-":
            sys.stdout.buffer.write(text)
            sys.stdout.buffer.flush()
            return
        try:
            Path(self._target).write_bytes(text)
        except OSError as error:
            raise ConfigError("--json", f"{self._target}: {error.strerror}") from error


@contextlib.contextmanager
def progress() -> "Generator[Callable[[str, float], None]]":
    """A bar per stage on standard error."""
    from rich.console import Console
    from rich.progress import Progress, TaskID

    with Progress(console=Console(stderr=True)) as bars:
        stages: dict[str, TaskID] = {}

        def step(stage: str, share: float) -> None:
            if stage not in stages:
                stages[stage] = bars.add_task(stage, total=1.0)
            bars.update(stages[stage], completed=share)

        yield step
