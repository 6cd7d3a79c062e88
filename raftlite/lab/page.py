"""The files of the page, and the page as one file that replays a recording without any server."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html import escape
from pathlib import Path
from typing import Any, Dict, Iterable, List

FOLDER = Path(__file__).resolve().parent / "static"
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
}

_STYLE = re.compile(r'<link rel="stylesheet" href="static/([\w.-]+)">\n?')
_SCRIPT = re.compile(r'<script src="static/([\w.-]+)"></script>\n?')
_TITLE = "<title>raftlite lab</title>"


def static_files() -> Dict[str, bytes]:
    """Every file of the page by its name: nothing else is served."""
    return {path.name: path.read_bytes() for path in sorted(FOLDER.iterdir()) if path.suffix in TYPES}


def offline_page(lines: Iterable[str], title: str = "", scenes: Any = None) -> str:
    """One HTML file that replays the trace whose JSON Lines these are, the header first. It opens by double-click.

    It asks nobody for anything: its own policy forbids it. `scenes` is what the server answers to GET /scenes; the page
    takes the titles of scenes and the choices of their questions from it.
    """
    trace = {"name": title, "scenes": scenes, "records": [json.loads(line) for line in lines if line.strip()]}
    files = {name: content.decode("utf-8") for name, content in static_files().items()}
    page = files["index.html"]
    style = "".join(files[name] for name in _STYLE.findall(page))
    # The first script is for the head: it chooses the theme before anything is drawn.
    first, *others = [files[name] for name in _SCRIPT.findall(page)]
    scripts = [f"window.RAFTLITE_TRACE = {_in_script(trace)};", first, *others]
    page = _SCRIPT.sub("", _STYLE.sub("", page))
    head = _policy(style, scripts) + f"<style>{style}</style>\n" + _tags(scripts[:2])
    page = _put_before("</head>", page, head)
    page = _put_before("</body>", page, _tags(scripts[2:]))
    return page.replace(_TITLE, f"<title>{escape(title or 'raftlite lab')}</title>", 1)


def _in_script(value: Any) -> str:
    """`value` as an expression that cannot end the script in which it stands."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")


def _tags(scripts: List[str]) -> str:
    return "".join(f"<script>{script}</script>\n" for script in scripts)


def _policy(style: str, scripts: List[str]) -> str:
    """Only these very scripts and styles run, and nothing is fetched."""
    allowed = " ".join(map(_digest, scripts))
    policy = f"default-src 'none'; script-src {allowed}; style-src {_digest(style)}; img-src data: blob:"
    return f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'


def _digest(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode('utf-8')).digest()).decode()}'"


def _put_before(tag: str, page: str, text: str) -> str:
    head, found, tail = page.rpartition(tag)
    return head + text + found + tail
