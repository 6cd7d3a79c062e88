"""Connections over mutual TLS: the same frames, through the `ssl` of the standard library.

frames ─▶ SSLObject ─▶ bytes in memory ─▶ the socket of the `Channel`, and the same way back

TLS works in memory here and never touches the socket. So the socket can be written to without waiting, looked at
without reading, and shut down by any thread, as without TLS, and a forked child says nothing when it closes its copy.

Both ends show a certificate and want that of the other signed by their CA. That it names the right member is no affair
of TLS, whose names are those of hosts: the dialler compares it with the member that it means, the listener with the one
that the hello names.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Dict, List, NoReturn, Tuple, Union

from raftlite.codec import shorten
from raftlite.errors import ConfigError, MalformedMessage
from raftlite.nodes.channel import MOST_AT_ONCE, TLS_ONLY, Channel, Disagreed, Refused, frame, refusing

_RECORD_TYPES = range(20, 25)  # what a TLS record begins with (RFC 8446, B.1)
_INSTEAD = "raftlite.tls_context(cert=..., key=..., ca=...) makes one that does"


@dataclass(frozen=True)
class TlsContext:
    """What a member needs to dial and to listen over TLS; made by `raftlite.tls_context`."""

    server: ssl.SSLContext = field(repr=False)
    client: ssl.SSLContext = field(repr=False)
    cert: str = ""  # the paths of the files, where it was made of files
    key: str = ""
    ca: str = ""

    @classmethod
    def of(cls, given: Any) -> TlsContext:
        """`given`, or made of one `SSLContext` or of a pair. Raises `ConfigError` for what would not do."""
        if isinstance(given, cls):
            return given
        pair = given if isinstance(given, tuple) and len(given) == 2 else (given, given)
        if not all(isinstance(each, ssl.SSLContext) for each in pair):
            raise ConfigError(f"ssl_context is {shorten(given)}, but must be an SSLContext: {_INSTEAD}")
        server, client = pair
        if server.protocol == ssl.PROTOCOL_TLS_CLIENT or client.protocol == ssl.PROTOCOL_TLS_SERVER:
            hint = f"a member needs two, one for servers and one for clients: {_INSTEAD}"
            raise ConfigError(f"ssl_context is of one role alone or of the wrong one, but {hint}")
        for context in pair:
            _check(context)
        return cls(server, client)

    @classmethod
    def of_files(cls, cert: str, key: str, ca: str) -> TlsContext:
        """Read the files. Raises `ConfigError` naming the one that is wrong."""
        _check_files(cert, key, ca)
        roles = (ssl.PROTOCOL_TLS_SERVER, ssl.PROTOCOL_TLS_CLIENT)
        server, client = (_context(role, cert, key, ca) for role in roles)
        return cls(server, client, cert, key, ca)

    def __reduce__(self) -> Union[str, Tuple[Any, ...]]:
        if not self.cert:
            raise TypeError(f"an SSLContext cannot be given to another process: {_INSTEAD}")
        return TlsContext.of_files, (self.cert, self.key, self.ca)

    def channel(self, sock: socket.socket, is_listener: bool) -> TlsChannel:
        """A channel over a socket through which nothing has been said yet."""
        return TlsChannel(sock, self.server if is_listener else self.client, is_listener)

    def why_refused(self, node_id: str) -> str:
        """Why members with the same CA will not accept this certificate as that of `node_id`; empty if they will.

        Both roles are played in memory, one against the other.
        """
        to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
        client = self.client.wrap_bio(to_client, to_server)
        server = self.server.wrap_bio(to_server, to_client, server_side=True)
        try:
            for end in 3 * (client, server):
                with contextlib.suppress(ssl.SSLWantReadError):
                    end.do_handshake()
        except ssl.SSLError as error:
            return _in_words(error, whose="it")
        return _why_not(server.getpeercert(), node_id) or _why_not(client.getpeercert(), node_id)


def _context(role: Any, cert: str, key: str, ca: str) -> ssl.SSLContext:
    context = ssl.SSLContext(role)
    context.check_hostname = False  # the names are those of members
    context.verify_mode = ssl.CERT_REQUIRED
    if ssl.HAS_TLSv1_3:  # both ends are ours, so nobody needs less
        context.minimum_version = ssl.TLSVersion.TLSv1_3
    if role == ssl.PROTOCOL_TLS_SERVER:
        context.num_tickets = 0  # nobody resumes a session: every connection shows its certificate anew
    try:
        context.load_cert_chain(cert, key, password=lambda: _refuse_password(key))
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise ConfigError(f"key is {key!r}, which does not fit the certificate in {cert!r}") from None
        raise ConfigError(f"cert is {cert!r} and key {key!r}, but cannot be read: {error.reason or error}") from None
    try:
        context.load_verify_locations(ca)
    except ssl.SSLError as error:
        raise ConfigError(f"ca is {ca!r}, but cannot be read: {error.reason or error}") from None
    return context


def _refuse_password(key: str) -> NoReturn:
    raise ConfigError(f"key is {key!r}, which has a password, but nobody is there to ask for it")


def _check_files(cert: str, key: str, ca: str) -> None:
    """The errors of `ssl` do not say which of its files is meant."""
    for name, path, kind in (("cert", cert, "CERTIFICATE"), ("key", key, "PRIVATE KEY"), ("ca", ca, "CERTIFICATE")):
        try:
            content = Path(path).read_bytes()
        except (OSError, ValueError) as error:
            raise ConfigError(f"{name} is {path!r}, but cannot be read: {getattr(error, 'strerror', error)}") from None
        if f"{kind}-----".encode() not in content:
            raise ConfigError(f"{name} is {path!r}, but there is no {kind.lower()} in PEM format in it")


def _check(context: ssl.SSLContext) -> None:
    if context.verify_mode != ssl.CERT_REQUIRED:
        raise ConfigError(f"ssl_context does not require a certificate (verify_mode = CERT_REQUIRED): {_INSTEAD}")
    if context.check_hostname:
        raise ConfigError(
            "ssl_context has check_hostname, but certificates name members, not hosts: set it to False; raftlite "
            "compares the names itself"
        )


class TlsChannel(Channel):
    """A channel whose bytes are encrypted from `shake_hands` on."""

    def __init__(self, sock: socket.socket, context: ssl.SSLContext, is_listener: bool) -> None:
        super().__init__(sock)
        self._is_listener = is_listener
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=is_listener)
        self._is_secure = False

    def shake_hands(self) -> None:
        """Raise `Refused` unless both ends have shown a certificate of the CA."""
        with refusing("the TLS handshake failed"):
            if self._is_listener:
                self._wait_for_first_byte()
            self._shake_hands()
        self._is_secure = True

    def _wait_for_first_byte(self) -> None:
        """Whoever speaks TLS begins; whoever does not waits for this end, and is told so before it gives up."""
        if self._deadline is None or super().has_input(max(0.001, self._deadline - time.monotonic()) / 2):
            return
        self.send_rest(frame(TLS_ONLY))
        self._part()
        self.ended_unheard = False  # it was this end that ended it
        raise Refused("TLS is spoken here, but nothing was said there; perhaps it knows of no TLS")

    def _shake_hands(self) -> None:
        while True:
            try:
                self._tls.do_handshake()
                self._flush()
                return
            except ssl.SSLWantReadError:
                self._flush()
                self._incoming.write(self._receive_record())
            except ssl.SSLError as error:
                self._flush()  # the alert that tells the other end
                self._part()
                raise Disagreed(_in_words(error)) from None

    def _receive_record(self) -> bytes:
        is_first = not self._is_heard
        part = self._receive()
        if is_first and part[0] not in _RECORD_TYPES:
            raise Disagreed("TLS is spoken here, but not there")
        return part

    def _flush(self) -> None:
        if self._outgoing.pending:
            self.send_rest(self._outgoing.read())

    def _part(self) -> None:
        """Let the last words arrive: the system forgets them where a socket is closed that has something unread."""
        with contextlib.suppress(OSError, EOFError):
            self._socket.shutdown(socket.SHUT_WR)
            while True:
                self._receive()

    # --- The bytes of frames ----------------------------------------------------------------------

    def _wire(self, data: bytes) -> bytes:
        plain = memoryview(frame(data))
        while plain:
            plain = plain[self._tls.write(plain) :]
        return self._outgoing.read()

    def _read(self) -> bytes:
        while True:
            try:
                data = self._tls.read(MOST_AT_ONCE)
            except ssl.SSLWantReadError:
                self._incoming.write(self._receive())
            except ssl.SSLError as error:
                self._fail(error)
            else:
                if data:
                    return data
                raise EOFError

    def _read_at_once(self) -> bytes:
        self._incoming.write(super()._read_at_once())
        data = b""
        while True:  # what is left inside wakes nobody
            try:
                part = self._tls.read(MOST_AT_ONCE)
            except ssl.SSLWantReadError:
                return data
            except ssl.SSLError as error:
                self._fail(error)
            if not part:
                raise EOFError
            data += part

    def _fail(self, error: ssl.SSLError) -> NoReturn:
        """A dialler hears only now, after its part of the handshake, that the listener does not accept it."""
        if isinstance(error, ssl.SSLZeroReturnError):
            raise EOFError from None
        if "ALERT" in (error.reason or ""):
            raise Disagreed(_in_words(error)) from None
        raise MalformedMessage("what was said was altered on its way, or is no TLS") from None

    def has_input(self, seconds: float = 0.0) -> bool:
        """Whether the peer has said something or ended it; TLS has things to say for itself, which do not count."""
        if not super().has_input(seconds):
            return False
        if not self._is_secure:
            return True
        try:
            part = self._socket.recv(MOST_AT_ONCE)  # there is something, so this does not wait
            if not part:
                return True
            self._incoming.write(part)
            self._received += self._tls.read(MOST_AT_ONCE)
        except ssl.SSLWantReadError:
            return False
        except OSError:
            return True
        return True

    # --- Who is there -----------------------------------------------------------------------------

    def why_not(self, node_id: str) -> str:
        return _why_not(self._tls.getpeercert(), node_id)


def names_in(certificate: Dict[str, Any]) -> List[str]:
    """The ids that a certificate may stand for: its alternative DNS names, and the common name of its subject."""
    names = [value for kind, value in certificate.get("subjectAltName", ()) if kind == "DNS"]
    for part in certificate.get("subject", ()):
        names += [value for kind, value in part if kind == "commonName"]
    return list(dict.fromkeys(names))


def _why_not(certificate: Any, node_id: str) -> str:
    names = names_in(certificate or {})
    if node_id in names:  # letter by letter: no wildcards, and 'A' is not 'a'
        return ""
    named = ", ".join(map(repr, names))[:200] or "nobody"
    return f"the certificate names {named}, but {node_id!r} is meant"


# --- Errors in words ------------------------------------------------------------------------------

_WRONG_CERTIFICATE = {  # the codes of OpenSSL's X509_V_ERR_...
    9: "is not valid yet",
    10: "has expired, or its CA has",  # which of the two, the ssl module does not tell
    18: "is self-signed",
    23: "was revoked",
    26: "is not meant for this: see its extended key usage",
    **dict.fromkeys((2, 7, 19, 20, 21), "was not signed by the CA of this side"),
}

_ALERTS = {
    "CERTIFICATE_EXPIRED": "this side's certificate has expired, or its CA has",
    "UNKNOWN_CA": "this side's certificate was not signed by the CA of the other side",
    "CERTIFICATE_REQUIRED": "this side shows no certificate",
    "CERTIFICATE_REVOKED": "this side's certificate was revoked",
    "UNSUPPORTED_CERTIFICATE": "this side's certificate is not meant for this: see its extended key usage",
    "BAD_CERTIFICATE": "this side's certificate is not valid, or not yet",
    "DECRYPT_ERROR": "this side's certificate was not signed by the CA of the other side",
    "PROTOCOL_VERSION": "the two sides have no version of TLS in common",
    "HANDSHAKE_FAILURE": "the two sides have no cipher in common, or this side shows no certificate",
}

_REASONS = {
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": "the other side shows no certificate",
    "NO_SHARED_CIPHER": "the two sides have no cipher in common, or one has no certificate",
    "UNSUPPORTED_PROTOCOL": "the two sides have no version of TLS in common",
    "WRONG_VERSION_NUMBER": "TLS is spoken here, but not there",
}


def _in_words(error: ssl.SSLError, whose: str = "the other side's certificate") -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"{whose} {_WRONG_CERTIFICATE.get(error.verify_code) or f'is not valid: {error.verify_message}'}"
    reason = error.reason or ""
    if "ALERT" in reason:
        words = next((words for alert, words in _ALERTS.items() if alert in reason), reason)
        return f"refused there: {words}"
    return _REASONS.get(reason) or f"the TLS handshake failed: {reason or error}"
