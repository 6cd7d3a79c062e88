"""Addresses: `host:port`, `[ipv6]:port`, or the path of a Unix socket."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
import struct
import sys
import time
from typing import Any, Iterator, Tuple, Union

from raftlite.errors import ConfigError
from raftlite.membership import LONGEST_ADDRESS

Address = Union[str, Tuple[str, int], os.PathLike[str]]
"""What callers may give: text, the path of a socket, or a `(host, port)` pair, as `multiprocessing.connection` does."""

_BACKLOG = 128  # connections that wait to be accepted

_WILDCARDS = ("", "0", "0.0.0.0", "::", "::0")
_UNIX_REFUSES_FOR_THE_DEAD_ALONE = sys.platform == "linux"  # BSD and macOS refuse where a listener is merely too busy
_FORMS = "but must be 'host:port' or the path of a Unix socket"
_NEEDS_A_SLASH = ", which needs a slash: ./{}"


def normalize(address: Address, name: str = "address") -> str:
    """Return `address` as text. Raises `ConfigError`, under this `name`, where it is neither `host:port` nor a path."""
    if isinstance(address, tuple) and len(address) == 2:
        host, port = address
        address = f"[{host}]:{port}" if ":" in str(host) else f"{host}:{port}"
    address = f"unix:{os.fsdecode(address)}" if isinstance(address, os.PathLike) else address
    if not isinstance(address, str):
        raise ConfigError(f"{name} is {address!r}, {_FORMS}")
    if len(address) > LONGEST_ADDRESS:
        raise ConfigError(f"{name} is {address!r:.60}..., but must be of at most {LONGEST_ADDRESS} characters")
    if is_path(address):
        return _checked_path(address, name)
    host, port_text = _split_text(address, name)
    return f"[{host}]:{port_text}" if ":" in host else f"{host}:{port_text}"


def reachable(address: Address, name: str) -> str:
    """`normalize` an address that others are to connect to. Raises `ConfigError` where it names no such place."""
    address = normalize(address, name)
    if is_wildcard(address):
        raise ConfigError(f"{name} is {address!r}, but {host_and_port(address)[0]!r} names no host to connect to")
    if not is_path(address) and host_and_port(address)[1] == 0:
        raise ConfigError(f"{name} is {address!r}, but nobody can connect to port 0")
    return address


def is_path(address: str) -> bool:
    """Whether `address` names a Unix socket: it begins with `unix:` or has a slash."""
    return address.startswith("unix:") or "/" in address


def host_and_port(address: str) -> Tuple[str, int]:
    """Return the two parts of a normalized `host:port`."""
    host, port = _split_text(address)
    return host, int(port)


def _checked_path(address: str, name: str) -> str:
    path = address[len("unix:") :] if address.startswith("unix:") else address
    if not path:
        raise ConfigError(f"{name} is {address!r}, {_FORMS}")
    try:
        os.fsencode(path)
    except UnicodeError:
        raise ConfigError(f"{name} is {address!r}, but {path!r} is no name of a file") from None
    return path if "/" in path else f"./{path}"  # without `unix:`, only a slash tells it from a host


def _split_text(address: str, name: str = "address") -> Tuple[str, str]:
    host, separator, port = address.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    if not separator:
        raise ConfigError(f"{name} is {address!r}, {_FORMS}{_NEEDS_A_SLASH.format(address) if address else ''}")
    if not port.isascii() or not port.isdigit() or not {"[", "]"}.isdisjoint(host):
        raise ConfigError(f"{name} is {address!r}, {_FORMS}")
    if len(port) > 5 or int(port) > 65535:  # the length first: Python reads no number of thousands of digits
        raise ConfigError(f"{name} is {address!r}, but its port must be from 0 to 65535")
    try:
        host.encode("idna")  # as the resolver will, whose error would be no OSError
    except UnicodeError:
        raise ConfigError(f"{name} is {address!r}, but {host!r} is no name of a host") from None
    return host, port


def is_loopback(address: str) -> bool:
    """Whether only this machine can reach `address`. A name counts if everything it resolves to does."""
    if is_path(address):
        return True
    host, _ = host_and_port(address)
    if host in _WILDCARDS:
        return False
    with contextlib.suppress(OSError):
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
        return all(entry[4][0] == "::1" or str(entry[4][0]).startswith("127.") for entry in found)
    return False


def is_wildcard(address: str) -> bool:
    """Whether `address` listens on every interface, so that it names no place to connect to."""
    return not is_path(address) and host_and_port(address)[0] in _WILDCARDS


def dial(address: str, timeout: float) -> socket.socket:
    """Return a connected socket, of which no read or write waits longer than `timeout` seconds in vain.

    Raises `OSError` (also `TimeoutError`) with the address in the message.
    """
    with _naming("cannot connect to", address):
        if is_path(address):
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                sock.settimeout(timeout)
                sock.connect(address)
            except BaseException:  # Ctrl-C, too
                sock.close()
                raise
        else:
            sock = socket.create_connection(host_and_port(address), timeout=timeout)
        try:
            sock.settimeout(None)
            keep_alive(sock)
            _limit(sock, timeout)
        except BaseException:  # the other side has reset it already
            sock.close()
            raise
        return sock


def nobody_listens(family: int, place: Any, timeout: float) -> bool:
    """Whether there is proof that the process which listened at `place` is gone; for the system's form of an address.

    The system refuses a connection there. For a moment after a process was killed its socket still accepts, and resets
    what it has accepted; so may a firewall that is loaded anew, with every connection of a process that is alive. So
    look again then. A connection that is closed in order, or not answered within `timeout` seconds, proves nothing: a
    listener that is alive does so too.
    """
    if family == getattr(socket, "AF_UNIX", None) and not _UNIX_REFUSES_FOR_THE_DEAD_ALONE:
        return False
    give_up_at, pause = time.monotonic() + timeout, 0.0  # what a dying process resets, it refuses an instant later
    while time.monotonic() < give_up_at:
        try:
            _wait_for_first_byte(family, place, timeout)
            return False
        except ConnectionRefusedError:
            return True
        except ConnectionResetError:
            time.sleep(pause)
            pause = max(0.0001, 2 * pause)
        except OSError:  # also where this process can have no socket
            return False
    return False


def _wait_for_first_byte(family: int, place: Any, timeout: float) -> None:
    with socket.socket(family, socket.SOCK_STREAM) as sock:
        sock.settimeout(timeout)
        sock.connect(place)
        sock.recv(1)


def listen(address: str) -> socket.socket:
    """Return a listening socket. Raises `OSError` with the address in the message."""
    with _naming("cannot listen on", address):
        if is_path(address):
            return _listen_on_path(address)
        host, port = host_and_port(address)
        entry = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        return socket.create_server(entry[4][:2], family=entry[0], backlog=_BACKLOG)


def keep_alive(sock: socket.socket) -> None:
    """Send small messages at once, and notice within seconds when the peer's machine has gone."""
    if sock.family == getattr(socket, "AF_UNIX", None):
        return
    options = [(socket.IPPROTO_TCP, "TCP_NODELAY", 1), (socket.SOL_SOCKET, "SO_KEEPALIVE", 1)]
    options += [(socket.IPPROTO_TCP, name, n) for name, n in _KEEP_ALIVE]
    for level, name, value in options:
        if hasattr(socket, name):
            sock.setsockopt(level, getattr(socket, name), value)


# The longer a network was cut, the longer TCP waits to try again; a new connection is heard at once. Three probes fit
# in, so that a few lost packets end no idle connection.
_KEEP_ALIVE = (("TCP_KEEPIDLE", 1), ("TCP_KEEPINTVL", 1), ("TCP_KEEPCNT", 3), ("TCP_USER_TIMEOUT", 4_000))


def _limit(sock: socket.socket, seconds: float) -> None:
    """Let the system end reads and writes: `settimeout` means nothing to whoever takes over the bare descriptor."""
    microseconds = max(1_000, int(seconds * 1_000_000))
    windows = os.name == "nt"
    limit = microseconds // 1_000 if windows else struct.pack("ll", *divmod(microseconds, 1_000_000))
    for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
        sock.setsockopt(socket.SOL_SOCKET, option, limit)


def _listen_on_path(path: str) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _remove_dead_socket(path)
        sock.bind(path)
        sock.listen(_BACKLOG)
        return sock
    except BaseException:  # Ctrl-C, too, leaves nothing open
        sock.close()
        raise


def _remove_dead_socket(path: str) -> None:
    """A process that was killed leaves its socket file behind; nobody listens there any more."""
    if not os.path.exists(path):
        return
    if not stat.S_ISSOCK(os.stat(path).st_mode):  # not ours to remove
        raise OSError(errno.EADDRINUSE, "something is there that is no socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
        except OSError:
            pass  # somebody is there, but busy: bind will refuse the address


@contextlib.contextmanager
def _naming(what: str, address: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error) or type(error).__name__
        named = f"{what} {address}: {reason}"
        raise (type(error)(error.errno, named) if error.errno is not None else type(error)(named)) from error
