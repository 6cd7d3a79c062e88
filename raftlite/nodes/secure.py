"""Whether connections are encrypted, and with what. Only where they are is `ssl` imported: it takes a megabyte."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING, Optional, Tuple, Union

from raftlite.errors import ConfigError
from raftlite.nodes.channel import Channel

if TYPE_CHECKING:
    from ssl import SSLContext

    from raftlite.nodes.tls import TlsContext

AnyContext = Union["TlsContext", "SSLContext", Tuple["SSLContext", "SSLContext"]]
"""What callers may give: of `tls_context`, or made by themselves: one for both roles, or (for servers, for clients)."""

CERTIFIED = b"whoever has a certificate is a member"
"""Stands for the key where certificates prove who is a member and no other secret is given."""


def tls_context(
    *, cert: Union[str, os.PathLike[str]], key: Union[str, os.PathLike[str]], ca: Union[str, os.PathLike[str]]
) -> TlsContext:
    """Return what `Member(ssl_context=...)` takes, made of three files in PEM format, which are read here and now.

    `cert` is this member's certificate (followed by those between it and the CA, if there are any), which names its id
    as a DNS name among the alternative names or as the common name; `key` is the private key of it, without a
    password; `ca` has the certificates of whoever signs those of members. Everybody with a certificate of that CA is
    let in, so it should sign for nobody else. Pickled, the result is nothing but the three paths.

    Raises `ConfigError` naming the one that is missing or does not fit.
    """
    from raftlite.nodes.tls import TlsContext

    for name, path in (("cert", cert), ("key", key), ("ca", ca)):
        if not isinstance(path, (str, os.PathLike)) or path == "":
            raise ConfigError(f"{name} is {path!r}, but must be the path of a file")
    return TlsContext.of_files(*(os.path.abspath(path) for path in (cert, key, ca)))


def checked(ssl_context: Optional[AnyContext]) -> Optional[TlsContext]:
    """The contexts for both roles, or None for no encryption. Raises `ConfigError` for what does not do."""
    if ssl_context is None:
        return None
    from raftlite.nodes.tls import TlsContext

    return TlsContext.of(ssl_context)


def dialled(sock: socket.socket, tls: Optional[TlsContext]) -> Channel:
    """The channel of whoever has connected `sock`."""
    return Channel(sock) if tls is None else tls.channel(sock, is_listener=False)


def accepted(sock: socket.socket, tls: Optional[TlsContext]) -> Channel:
    """The channel of whoever has accepted `sock`."""
    return Channel(sock) if tls is None else tls.channel(sock, is_listener=True)
