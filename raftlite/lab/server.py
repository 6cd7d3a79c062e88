"""The page over HTTP, for this machine only.

    browser ─▶ ThreadingMixIn + wsgiref (127.0.0.1) ─▶ make_app ─▶ Session

Whoever is asked by a page from elsewhere refuses: `Host` must be the name of this machine (or another site could have
its own name point here), whatever changes something needs a header that only this page may set, and where the browser
says that another site asks, nothing but the page itself is to be had.
"""

from __future__ import annotations

import contextlib
import json
import re
import socket
import socketserver
import sys
import threading
from http import HTTPStatus
from types import TracebackType
from typing import Any, Callable, Dict, Iterable, Mapping, NamedTuple, Optional, Set, Tuple, Type
from urllib.parse import parse_qs, unquote
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from raftlite.errors import ConfigError
from raftlite.lab.act_out import turns_as_json
from raftlite.lab.exports import EXPORTS, export
from raftlite.lab.operations import Refused
from raftlite.lab.page import TYPES, static_files
from raftlite.lab.session import Session, scenes_in_words
from raftlite.lab.trace import TraceError, loads

LONGEST_DO = 64 * 1024  # bytes of an operation
LONGEST_FILE = 64 * 1024 * 1024  # bytes of a recording; unpacked it may be as long as `loads` allows
PATIENCE = 10.0  # seconds that a browser may be silent amid a request
OWN_NAMES = ("127.0.0.1", "localhost", "[::1]")
_HOST = re.compile(r"(\[[^\[\]]*\]|[^:\[\]]*)(?::\d{1,5})?")  # a name, and perhaps a port

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data: blob:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
SAFETY = [
    ("Content-Security-Policy", POLICY),
    ("X-Content-Type-Options", "nosniff"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Referrer-Policy", "no-referrer"),
    ("Cache-Control", "no-store"),
]

Environ = Dict[str, Any]
App = Callable[[Environ, Callable[..., Any]], Iterable[bytes]]


class Answer(NamedTuple):
    status: HTTPStatus
    content_type: str
    body: bytes
    headers: Tuple[Tuple[str, str], ...] = ()


class Wrong(Exception):
    """The request is not answered; why is said with this status."""

    def __init__(self, status: HTTPStatus, reason: str, *headers: Tuple[str, str]) -> None:
        super().__init__(reason)
        self.status, self.headers = status, headers


def make_app(session: Session, names: Iterable[str] = OWN_NAMES) -> App:
    """The WSGI application that shows `session`. `names` are those under which its server may be reached."""
    site = _Site(session, frozenset(names))

    def app(environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
        answer = site.answer(environ)
        headers = [("Content-Type", answer.content_type), ("Content-Length", str(len(answer.body)))]
        status = f"{answer.status.value} {answer.status.phrase}"
        start_response(status, [*headers, *SAFETY, *answer.headers])
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [answer.body]

    return app


class _Site:
    def __init__(self, session: Session, names: frozenset[str]) -> None:
        self._session, self._names = session, names
        self._files = static_files()
        self._routes: Dict[str, Dict[str, Callable[[Environ], Answer]]] = {
            "/": {"GET": lambda _: self._file("index.html")},
            "/trace": {"GET": self._trace},
            "/scenes": {"GET": lambda _: _json(scenes_in_words())},
            "/act": {"GET": self._act},
            "/do": {"POST": self._do},
            "/open": {"POST": self._open},
            **{f"/static/{name}": {"GET": self._reader(name)} for name in self._files},
            **{f"/export/{kind}": {"GET": self._exporter(kind)} for kind in EXPORTS},
        }

    def answer(self, environ: Environ) -> Answer:
        try:
            self._check_host(environ)
            self._check_site(environ)
            return self._handler(environ)(environ)
        except Wrong as error:
            return _json({"error": str(error)}, error.status, *error.headers)

    def _handler(self, environ: Environ) -> Callable[[Environ], Answer]:
        methods = self._routes.get(environ.get("PATH_INFO") or "/")
        if methods is None:
            raise Wrong(HTTPStatus.NOT_FOUND, "there is nothing here")
        method = environ["REQUEST_METHOD"]
        method = "GET" if method == "HEAD" else method
        if method not in methods:
            allowed = ", ".join(methods)
            raise Wrong(HTTPStatus.METHOD_NOT_ALLOWED, f"this takes {allowed}", ("Allow", allowed))
        if method == "POST":
            self._check_origin(environ)
        return methods[method]

    # --- Who asks ---------------------------------------------------------------------------------

    def _check_host(self, environ: Environ) -> None:
        host = environ.get("HTTP_HOST", "")
        parts = _HOST.fullmatch(host)
        if parts is None or parts[1].lower() not in self._names:
            raise Wrong(HTTPStatus.FORBIDDEN, f"this page is not to be had as {host[:80]!r}")

    def _check_origin(self, environ: Environ) -> None:
        if not environ.get("HTTP_X_RAFTLITE"):
            raise Wrong(HTTPStatus.FORBIDDEN, "the header X-Raftlite is missing: only the lab's own page sends it")
        origin = environ.get("HTTP_ORIGIN")
        own = f"{environ.get('wsgi.url_scheme', 'http')}://{environ.get('HTTP_HOST', '')}"
        if origin is not None and origin.lower() != own.lower():
            raise Wrong(HTTPStatus.FORBIDDEN, "a page from elsewhere may not do anything here")

    def _check_site(self, environ: Environ) -> None:
        """A page from elsewhere could not read the answer, but have the lab work for it. It may have a link to here."""
        is_own = environ.get("HTTP_SEC_FETCH_SITE", "same-origin") in ("same-origin", "none")
        if not is_own and (environ.get("PATH_INFO") or "/") != "/":
            raise Wrong(HTTPStatus.FORBIDDEN, "a page from elsewhere may not do anything here")

    # --- What is answered -------------------------------------------------------------------------

    def _reader(self, name: str) -> Callable[[Environ], Answer]:
        return lambda _: self._file(name)

    def _file(self, name: str) -> Answer:
        kind = "." + name.rpartition(".")[2]
        return Answer(HTTPStatus.OK, TYPES[kind], self._files[name])

    def _trace(self, environ: Environ) -> Answer:
        query = _query(environ)
        return _json(self._session.state(_whole(query, "after", 0), _whole(query, "limit", 500)))

    def _act(self, environ: Environ) -> Answer:
        trace = self._session.trace
        node = _query(environ).get("n", "")
        if node not in trace.nodes:
            raise Wrong(HTTPStatus.BAD_REQUEST, f"n must be one of {', '.join(trace.nodes)}")
        return _json(turns_as_json(trace, node))

    def _do(self, environ: Environ) -> Answer:
        content = _object(_body(environ, LONGEST_DO))
        name = content.pop("op", None)
        if not isinstance(name, str):
            raise Wrong(HTTPStatus.BAD_REQUEST, '"op" must be the name of an operation')
        try:
            self._session.do(name, content)
        except Refused as error:
            return _json({"error": str(error)})  # it was understood: browsers tell the console of every other status
        except (ConfigError, OSError) as error:
            raise Wrong(HTTPStatus.BAD_REQUEST, str(error)) from None
        return _json({"done": name})

    def _open(self, environ: Environ) -> Answer:
        content = _body(environ, LONGEST_FILE)
        name = "".join(filter(str.isprintable, unquote(environ.get("HTTP_X_NAME", ""))))[:100]
        try:
            trace = loads(content)
        except TraceError as error:
            raise Wrong(HTTPStatus.BAD_REQUEST, f"{name or 'the file'}: {error}") from None
        self._session.replay(trace, name)
        return _json({"opened": name, "records": trace.last})

    def _exporter(self, kind: str) -> Callable[[Environ], Answer]:
        def answer(environ: Environ) -> Answer:
            query = _query(environ)
            try:
                text, content_type, name = export(
                    kind,
                    self._session.trace,
                    start=_whole(query, "from", 1) if "from" in query else None,
                    stop=_whole(query, "to", 1) if "to" in query else None,
                    heartbeats=query.get("heartbeats", "1") != "0",
                )
            except (ConfigError, ValueError) as error:
                raise Wrong(HTTPStatus.BAD_REQUEST, str(error)) from None
            kept = ("Content-Disposition", f'attachment; filename="{name}"')
            return Answer(HTTPStatus.OK, content_type, text.encode("utf-8"), (kept,))

        return answer


def _json(content: Mapping[str, Any], status: HTTPStatus = HTTPStatus.OK, *headers: Tuple[str, str]) -> Answer:
    body = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode("utf-8")
    return Answer(status, "application/json; charset=utf-8", body, headers)


def _query(environ: Environ) -> Dict[str, str]:
    try:
        found = parse_qs(environ.get("QUERY_STRING", ""), max_num_fields=20)
    except ValueError:
        raise Wrong(HTTPStatus.BAD_REQUEST, "the query has too many fields") from None
    return {name: values[-1] for name, values in found.items()}


def _whole(query: Mapping[str, str], name: str, default: int) -> int:
    text = query.get(name, str(default))
    if not (text.isascii() and text.isdigit() and len(text) < 16):
        raise Wrong(HTTPStatus.BAD_REQUEST, f"{name} must be a whole number")
    return int(text)


def _body(environ: Environ, longest: int) -> bytes:
    text = environ.get("CONTENT_LENGTH") or ""
    if not (text.isascii() and text.isdigit() and len(text) < 16):
        raise Wrong(HTTPStatus.LENGTH_REQUIRED, "the length of the content is missing")
    length = int(text)
    if length > longest:
        raise Wrong(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"the content is longer than {longest // 1024} KB")
    try:
        content: bytes = environ["wsgi.input"].read(length)
    except OSError:
        content = b""
    if len(content) < length:
        raise Wrong(HTTPStatus.BAD_REQUEST, "the content ends too early")
    return content


def _object(content: bytes) -> Dict[str, Any]:
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise Wrong(HTTPStatus.BAD_REQUEST, "the content must be a JSON object")
    return value


# --- The server -----------------------------------------------------------------------------------


class _Handler(WSGIRequestHandler):
    timeout = PATIENCE  # or a browser that says nothing would keep a thread for ever

    def log_message(self, *_: Any) -> None:
        """A page asks ten times a second."""

    def address_string(self) -> str:
        return str(self.client_address[0])  # without asking a name server


class _Server(socketserver.ThreadingMixIn, WSGIServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, *args: Any) -> None:
        self._open: Set[socket.socket] = set()
        super().__init__(*args)

    def process_request(self, request: Any, client_address: Any) -> None:
        self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._open.discard(request)
        super().shutdown_request(request)

    def end_requests(self) -> None:
        """A browser that has connected and says nothing keeps nobody waiting."""
        for request in list(self._open):
            with contextlib.suppress(OSError):
                request.shutdown(socket.SHUT_RDWR)

    def handle_error(self, *_: Any) -> None:
        """A browser that goes away amid a request is nobody's mistake; anything else is shown."""
        if not isinstance(sys.exc_info()[1], (OSError, ValueError)):
            super().handle_error(*_)


class Serving:
    """The page of a session at `url`, on a thread of its own until `close`. Also a context manager."""

    def __init__(self, session: Session, port: int = 0) -> None:
        self._server = _Server(("127.0.0.1", port), _Handler)
        self._server.set_app(make_app(session))
        self.port = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}/"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), name="lab-server", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Answer nobody any more."""
        self._server.shutdown()
        self._thread.join()
        self._server.end_requests()
        self._server.server_close()

    def __enter__(self) -> Serving:
        return self

    def __exit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        self.close()


def serve(session: Session, port: int = 0) -> Serving:
    """Show `session` to the browsers of this machine. Raises `OSError` where the port is taken."""
    return Serving(session, port)
