"""Traces in files: JSON Lines, one record a line, written as they are made and read with suspicion.

    Trace.append ─ wakes ─▶ thread of TraceFile ─ lines ─▶ file

Whoever records never waits for the disk.
"""

from __future__ import annotations

import gzip
import io
import json
import logging
import math
import os
import queue
import threading
import zlib
from pathlib import Path
from typing import IO, Any, Iterator, NoReturn, Optional, Set, Union

from raftlite.lab.trace_records import Record, Trace, TraceError
from raftlite.lab.trace_schema import MOST_NODES, clipped, why_no_header, why_wrong

AnyPath = Union[str, "os.PathLike[str]"]

LONGEST_LINE = 1_000_000  # bytes
LARGEST_FILE = 256_000_000  # bytes, after unpacking
MOST_RECORDS = 1_000_000  # ten hours of a cluster of five
MOST_DIGITS = 20  # of a whole number
LAST_WRITES = 2.0  # seconds that the records have to be written which are there when a file is closed
_log = logging.getLogger(__name__)
_GZIP = b"\x1f\x8b"


# --- Writing --------------------------------------------------------------------------------------


def to_line(record: Record) -> str:
    """A record as it stands in a file, with its newline."""
    return json.dumps(record, ensure_ascii=False, allow_nan=False, separators=(",", ":")) + "\n"


def to_jsonl(trace: Trace, start: int = 1, stop: Optional[int] = None) -> str:
    """The whole trace, or the records with the numbers from `start` to `stop`, as a file has it."""
    records = trace.records[max(0, start - 1) : stop]
    return "".join(map(to_line, [trace.header, *records]))


def save(trace: Trace, path: AnyPath) -> None:
    """Write what `trace` holds now to `path`, and an `end`. Raises `OSError`."""
    with TraceFile(trace, path):
        pass


class TraceFile:
    """Writes the records of `trace` to `path`, those to come too, on a thread of its own, until it is closed.

    The file is readable at any time: each record is handed to the system whole and at once. A disk that is slow or full
    keeps nobody waiting and nothing else from going on; what it has not taken when the file is closed is counted in
    `dropped`, and `error` says why; then it is logged, too.
    """

    def __init__(self, trace: Trace, path: AnyPath) -> None:
        self.path = Path(path)
        self.dropped = 0
        self.error = ""
        self._trace = trace
        self._written = 0
        self._wake: queue.Queue[Record] = queue.Queue(1)  # what is to be written is in `trace`: no record gets lost
        self._closing = threading.Event()
        self._recorder_dropped = 0
        # Unbuffered, and therefore in the system's hands after each write.
        self._file: IO[bytes] = open(path, "wb", buffering=0)  # noqa: SIM115  # closed by `close`
        self._thread = threading.Thread(target=self._run, name="raftlite-trace-file", daemon=True)
        trace.add_listener(self._wake)
        self._thread.start()

    def close(self, dropped: int = 0) -> None:
        """Write what is left and an `end`, which says that `dropped` records were lost before they came here."""
        if self._closing.is_set():
            return
        self._trace.remove_listener(self._wake)
        self._recorder_dropped = dropped
        self._closing.set()
        self._nudge()
        self._thread.join(LAST_WRITES)
        self.dropped = self._trace.last - self._written if self._thread.is_alive() or self.error else 0
        if self.dropped:
            why = self.error or "the disk is too slow"
            _log.error("%s: %s: %d records are not in the recording", self.path, why, self.dropped)

    @property
    def trouble(self) -> str:
        """The error as a sentence, while the file is open, too; empty without one."""
        return f"The recording cannot be written to {self.path.name} any more: {self.error}" if self.error else ""

    def __enter__(self) -> TraceFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _nudge(self) -> None:
        if self._wake.empty():
            self._wake.put({})

    def _run(self) -> None:
        try:
            with self._file:
                self._write(to_line(self._trace.header))
                while not self._closing.is_set():
                    self._write_new()
                    self._wake.get()
                self._write_new()
                self._write(to_line(self._end()))
        except (OSError, ValueError) as error:
            self.error = getattr(error, "strerror", None) or str(error)

    def _write_new(self) -> None:
        # As many as there are in one go: a burst must not cost a call to the system for each.
        for records in iter(lambda: self._trace.after(self._written), []):
            self._write("".join(map(to_line, records)))
            self._written += len(records)

    def _write(self, text: str) -> None:
        data = memoryview(text.encode("utf-8"))
        while data:
            data = data[self._file.write(data) :]

    def _end(self) -> Record:
        i = self._written + 1
        return {"i": i, "t": self._trace.t, "k": "end", "n": None, "events": i - 1, "dropped": self._recorder_dropped}


# --- Reading --------------------------------------------------------------------------------------


def load(path: AnyPath) -> Trace:
    """The trace in the file at `path`, plain or packed by gzip.

    Raises `OSError` where it cannot be read, and `TraceError` with the line where it is no trace. A last line that was
    not written to its end, as after a crash, is left out, and so is what follows the first million of records;
    `truncated` of the trace then says so.
    """
    with open(path, "rb") as file:
        packed = file.peek(2)[:2] == _GZIP
        return _Reader(gzip.GzipFile(fileobj=file) if packed else file).read()


def loads(data: Union[bytes, str]) -> Trace:
    """The trace that `data` holds, which is the content of a file; otherwise as `load`."""
    content = data.encode("utf-8", "surrogatepass") if isinstance(data, str) else data
    file = io.BytesIO(content)
    return _Reader(gzip.GzipFile(fileobj=file) if content[:2] == _GZIP else file).read()


class _Reader:
    """Takes a file apart, line by line."""

    def __init__(self, file: Any) -> None:
        self._file = file  # whatever has `readline`
        self._number = 0  # of the line at hand
        self._read = 0  # bytes
        self._nodes: Set[str] = set()
        self._cut_off = ""

    def read(self) -> Trace:
        lines = self._lines()
        header = next(lines, None)
        if header is None:
            reason = f"line 1: {self._cut_off}" if self._cut_off else "the file is empty"
            raise TraceError(f"{reason}: it is no raftlite trace")
        self._refuse_if(why_no_header(header))
        self._nodes.update(header["nodes"])
        trace = Trace(header)
        for record in lines:
            if trace.last == MOST_RECORDS:
                trace.truncated = f"line {self._number} and all after it are left out: {MOST_RECORDS:,} records at most"
                return trace
            self._refuse_if(why_wrong(record))
            self._add(trace, record)
        if self._cut_off:
            trace.truncated = f"line {self._number} is cut off and left out: {self._cut_off}"
        return trace

    def _add(self, trace: Trace, record: Record) -> None:
        """Keep the promises of `Trace`, and remember where the file did not."""
        i, t = record["i"], record["t"]
        number = trace.last + 1
        if i != number:
            trace.problems.append(f"line {self._number}: the record says that it is {i}, but it is {number}")
        if t < trace.t:
            trace.problems.append(f"record {number}: the time falls from {trace.t:g} to {t:g}")
        node = record.setdefault("n", None)
        if node not in self._nodes and node is not None:
            self._nodes.add(node)
            self._refuse_if(f"more than {MOST_NODES} members" if len(self._nodes) > MOST_NODES else "")
        trace.records.append({**record, "i": number, "t": max(t, trace.t)})

    def _lines(self) -> Iterator[Record]:
        """The objects of the lines, up to the one that is cut off."""
        for line in iter(self._next_line, b""):
            self._number += 1
            try:
                content = self._parsed(line)
            except TraceError as error:
                if line.endswith(b"\n") or len(line) > LONGEST_LINE:
                    what = "it is no raftlite trace: " if self._number == 1 else ""
                    raise TraceError(f"line {self._number}: {what}{error}") from error.__cause__
                self._cut_off = str(error)
                return
            if content is not None:
                yield content

    def _next_line(self) -> bytes:
        try:
            line: bytes = self._file.readline(LONGEST_LINE + 1)
        except EOFError:  # a packed file without its end
            self._number += 1
            self._cut_off = "the packed file ends too early"
            return b""
        except (zlib.error, gzip.BadGzipFile) as error:
            raise TraceError(f"line {self._number + 1}: the file cannot be unpacked: {error}") from error
        self._read += len(line)
        if self._read > LARGEST_FILE:
            raise TraceError(f"the trace is longer than {LARGEST_FILE // 1_000_000} MB")
        return line

    def _parsed(self, line: bytes) -> Optional[Record]:
        if len(line) > LONGEST_LINE:
            raise TraceError(f"it is longer than {LONGEST_LINE:,} bytes")
        try:
            text = line.decode("utf-8-sig" if self._number == 1 else "utf-8")
            content = _DECODER.decode(text) if text.strip() else None
        except UnicodeDecodeError as error:
            raise TraceError("it is not UTF-8") from error
        except RecursionError:
            raise TraceError("its brackets are nested too deep") from None
        except ValueError as error:
            raise TraceError(f"it is not JSON: {getattr(error, 'msg', error)}") from error
        if content is None:
            return None
        if not isinstance(content, dict):
            raise TraceError(f"it is {clipped(content)}, but must be an object")
        if "\\ud" in text.lower() and not _is_text(content):
            raise TraceError("it holds half a character (a lone surrogate)")
        return content

    def _refuse_if(self, reason: str) -> None:
        if reason:
            raise TraceError(f"line {self._number}: {reason}")


def _is_text(content: Any) -> bool:
    try:
        json.dumps(content, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _whole(digits: str) -> int:
    if len(digits) > MOST_DIGITS:
        raise ValueError("a number has too many digits")
    return int(digits)


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError("a number is too large")
    return number


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number")


_DECODER = json.JSONDecoder(parse_int=_whole, parse_float=_finite, parse_constant=_no_number)
