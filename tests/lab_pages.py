"""A page without a browser: asks the application of the classroom's server directly, and looks at the answers."""

from __future__ import annotations

import io
import json
from wsgiref.util import setup_testing_defaults

from raftlite.lab import Lab
from raftlite.lab.server import make_app


class Answer:
    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = int(status.split()[0]), dict(headers), body

    @property
    def said(self):
        return json.loads(self.body)


class Browser:
    """Asks the application as the page does, unless it is told to do otherwise."""

    def __init__(self, session):
        self.session = session
        self.app = make_app(session)

    def ask(self, method, path, body=b"", query="", **environ):
        asked = {
            "REQUEST_METHOD": method,
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "HTTP_HOST": "127.0.0.1:8000",
            "CONTENT_LENGTH": str(len(body)),
            "wsgi.input": io.BytesIO(body),
        }
        if method == "POST":
            asked["HTTP_X_RAFTLITE"] = "1"
        setup_testing_defaults(asked)
        asked.update(environ)
        asked = {name: value for name, value in asked.items() if value is not None}
        started = []
        chunks = self.app(asked, lambda status, headers: started.append((status, headers)))
        return Answer(*started[0], b"".join(chunks))

    def get(self, path, query="", **environ):
        return self.ask("GET", path, query=query, **environ)

    def do(self, op, **arguments):
        return self.ask("POST", "/do", json.dumps({"op": op, **arguments}).encode())

    def open(self, content, name="run.jsonl"):
        return self.ask("POST", "/open", content, HTTP_X_NAME=name)


def virtual_lab(**settings):
    return Lab(**{"backend": "virtual", "seed": 3, **settings})
