"""What a command writes, on threads that may wait for whoever reads it, and the codes that it exits with."""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import select
import sys
import threading
from typing import Iterator, Optional, TextIO

EX_OK, EX_USAGE, EX_UNAVAILABLE, EX_SOFTWARE, EX_CANTCREAT, EX_IOERR, EX_TEMPFAIL, EX_CONFIG = (
    0, 64, 69, 70, 73, 74, 75, 78,
)  # fmt: skip
INTERRUPTED = 128 + 2

LINES_KEPT = 1_000  # of a node's output, while nobody reads it
LAST_WRITES = 1.0  # seconds that a node's last lines have to be written


class Unwritable(Exception):
    """The output cannot be written, though there may be somebody who reads it."""


def print_text(text: str, end: str = "\n") -> None:
    try:
        print(text, end=end, flush=True)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise Unwritable(error.strerror) from error


def drop_output() -> None:
    """Nobody can read the output: keep the interpreter from complaining when it flushes what is left."""
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), sys.stdout.fileno())


class Output:
    """Writes lines on a thread of its own, so that a reader who stops reading stops neither the member nor its end."""

    def __init__(self, out: Optional[TextIO]) -> None:
        self.is_gone = False  # nobody can read it any more
        self.error = ""  # why it cannot be written; empty where whoever read it has gone
        self._out = out  # None where the process was started without any
        self._lines: queue.Queue[Optional[str]] = queue.Queue(LINES_KEPT)
        self._thread = threading.Thread(target=self._run, name="raftlite-output", daemon=True)

    def line(self, text: Optional[str]) -> None:
        """Have `text` written after what came before it. Never waits: the oldest of too many lines is lost."""
        while True:
            try:
                return self._lines.put_nowait(text)
            except queue.Full:  # who leads now is worth more than who led
                with contextlib.suppress(queue.Empty):
                    self._lines.get_nowait()

    def __enter__(self) -> Output:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.line(None)
        self._thread.join(LAST_WRITES)

    def _run(self) -> None:
        try:
            for text in iter(self._lines.get, None):
                if self._out is not None:
                    self._write(self._out, f"{text}\n".encode(self._out.encoding, "backslashreplace"))
        except BrokenPipeError:  # a log that nobody reads any more is no reason to lead on unseen
            self.is_gone = True
        except OSError as error:
            self.error, self.is_gone = error.strerror or str(error), True

    def _write(self, out: TextIO, data: bytes) -> None:
        # Not into the buffer of `out`: the interpreter flushes it at its end, and aborts while this thread holds it.
        while data:
            try:
                data = data[os.write(out.fileno(), data) :]
            except BlockingIOError:  # whoever reads it is only slow
                select.select([], [out], [])


class _LogHandler(logging.Handler):
    """Hands what is logged to an `Output`, so that no thread of the member waits until somebody reads it."""

    def __init__(self, output: Output) -> None:
        super().__init__()
        self._output = output
        self.setFormatter(logging.Formatter("%(asctime)s %(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._output.line(self.format(record))
        except Exception:  # arguments that do not fit their text must not end the thread that logs
            self.handleError(record)


@contextlib.contextmanager
def log_to_stderr(verbose: bool) -> Iterator[None]:
    """Write what the body logs to standard error: every change of role if `verbose`, else only what is wrong."""
    root = logging.getLogger()
    before = root.level
    with Output(sys.stderr) as output:
        handler = _LogHandler(output)
        root.addHandler(handler)
        root.setLevel(logging.INFO if verbose else logging.WARNING)
        try:
            yield
        finally:
            root.setLevel(before)
            root.removeHandler(handler)
