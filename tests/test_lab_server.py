"""The server of the classroom's page: what it serves, and whom it turns away. Mostly asked without a socket."""

from __future__ import annotations

import json
import re
import signal
import socket
import threading
import urllib.error
import urllib.request

import pytest
from lab_pages import Browser, virtual_lab
from threads import PATIENCE

from raftlite.cli import main
from raftlite.lab.exports import EXPORTS
from raftlite.lab.page import static_files
from raftlite.lab.server import LONGEST_DO, LONGEST_FILE, make_app, serve
from raftlite.lab.session import Session
from raftlite.lab.trace import load, loads


@pytest.fixture
def browser():
    """A page that looks at five members of a virtual cluster, one of which leads."""
    with Session(virtual_lab) as session:
        session.fresh()
        session.lab.elected()
        yield Browser(session)


# --- What is served -----------------------------------------------------------------------------------


def test_page_and_everything_that_it_names_is_served(browser):
    page = browser.get("/")
    assert page.status == 200 and page.headers["Content-Type"].startswith("text/html")
    named = re.findall(r'(?:src|href)="(static/[^"]+)"', page.body.decode())
    assert len(named) > 10
    for path in named:
        answer = browser.get(f"/{path}")
        assert answer.status == 200 and answer.body, path
        assert answer.headers["Content-Type"].split(";")[0] == (
            "text/css" if path.endswith("css") else "text/javascript"
        )


def test_every_static_file_is_named_by_the_page():
    """No file is left over, and every script is a classic one: the offline page puts them into its own text."""
    page = static_files()["index.html"].decode()
    assert {f"static/{name}" for name in static_files()} - {"static/index.html"} == set(
        re.findall(r'(?:src|href)="(static/[^"]+)"', page)
    )
    assert 'type="module"' not in page
    assert not [name for name, content in static_files().items() if b"</script" in content and name.endswith(".js")]


def test_nothing_on_the_page_comes_from_elsewhere():
    for name, content in static_files().items():
        addresses = set(re.findall(r"https?://[\w./-]+", content.decode()))
        assert addresses <= {"http://www.w3.org/2000/svg"}, name


def test_policy_lets_only_own_files_run(browser):
    for path in ("/", "/static/app.js", "/trace", "/nowhere"):
        policy = browser.get(path).headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy and "script-src 'self'" in policy and "unsafe" not in policy
        assert browser.get(path).headers["X-Content-Type-Options"] == "nosniff"


def test_head_is_answered_without_a_body(browser):
    answer = browser.ask("HEAD", "/")
    assert answer.status == 200 and answer.body == b"" and int(answer.headers["Content-Length"]) > 1000


def test_trace_is_given_piece_by_piece(browser):
    whole = browser.get("/trace", "after=0&limit=5000").said
    assert whole["live"] and whole["header"]["nodes"] == ["n1", "n2", "n3", "n4", "n5"]
    first = browser.get("/trace", "after=0&limit=3").said
    rest = browser.get("/trace", "after=3&limit=5000").said
    assert [record["i"] for record in first["events"]] == [1, 2, 3]
    assert first["events"] + rest["events"] == whole["events"] and first["last"] == whole["last"]


@pytest.mark.parametrize(
    "query", ["after=-1", "after=x", "limit=1e3", "after=%C2%B2", "after=" + "9" * 40, "after=1.5"]
)
def test_wrong_numbers_are_refused(browser, query):
    assert browser.get("/trace", query).status == 400


def test_a_limit_is_kept_within_bounds(browser, monkeypatch):
    monkeypatch.setattr("raftlite.lab.session.MOST_RECORDS", 10)
    assert len(browser.get("/trace", "limit=999999999").said["events"]) == 10
    assert browser.get("/trace", "limit=0").said["events"] == []


def test_a_member_is_asked_what_it_had_to_decide(browser):
    said = browser.get("/act", query="n=n3").said
    assert said["node"] == "n3" and len(said["turns"]) == len(said["answers"]) > 0
    for turn, answer in zip(said["turns"], said["answers"]):
        assert turn["choices"][answer["answer"]] == answer["did"]
        assert not {"answer", "did", "why"} & set(turn)
    refused = browser.get("/act", query="n=n9")
    assert (refused.status, refused.said["error"]) == (400, "n must be one of n1, n2, n3, n4, n5")


def test_scenes_come_with_their_words(browser):
    said = browser.get("/scenes").said
    assert said["show"] and set(said["show"]) <= {scene["name"] for scene in said["scenes"]}
    for scene in said["scenes"]:
        assert scene["title"] and scene["summary"] and scene["stops"] and all(stop["text"] for stop in scene["stops"])


@pytest.mark.parametrize("kind", EXPORTS)
def test_every_kind_is_exported_as_a_file(browser, kind):
    answer = browser.get(f"/export/{kind}", "from=1&to=40&heartbeats=0")
    assert answer.status == 200 and len(answer.body) > 100
    assert re.fullmatch(r'attachment; filename="[\w.-]+"', answer.headers["Content-Disposition"])


def test_exported_recording_can_be_opened_again(browser):
    content = browser.get("/export/jsonl").body
    assert loads(content).records == browser.session.trace.records
    assert browser.open(content).status == 200


# --- Whom it turns away -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:8000", "127.0.0.1.evil.example", "localhost.evil.example", "127.0.0.1@evil.example",
     "", None, "0.0.0.0:8000", "[::2]:8000", "[::1].evil.example"],
)  # fmt: skip
@pytest.mark.parametrize("path", ["/", "/trace", "/static/app.js", "/export/jsonl"])
def test_foreign_host_is_refused(browser, host, path):
    """Another site may have its own name point to 127.0.0.1, and would then be of one origin with this page."""
    assert browser.get(path, HTTP_HOST=host).status == 403


@pytest.mark.parametrize("host", ["127.0.0.1:8000", "127.0.0.1", "localhost:8000", "LOCALHOST", "[::1]:8000", "[::1]"])
def test_names_of_this_machine_are_accepted(browser, host):
    assert browser.get("/", HTTP_HOST=host).status == 200


def test_under_another_server_other_names_can_be_allowed(browser):
    browser.app = make_app(browser.session, names=["lab.example"])
    assert browser.get("/", HTTP_HOST="lab.example").status == 200
    assert browser.get("/", HTTP_HOST="127.0.0.1").status == 403


@pytest.mark.parametrize("path", ["/do", "/open"])
@pytest.mark.parametrize(
    "environ",
    [
        {"HTTP_X_RAFTLITE": None},
        {"HTTP_X_RAFTLITE": ""},
        {"HTTP_ORIGIN": "http://evil.example"},
        {"HTTP_ORIGIN": "null"},
        {"HTTP_ORIGIN": "http://127.0.0.1:8001"},
        {"HTTP_ORIGIN": "https://127.0.0.1:8000"},
        {"HTTP_SEC_FETCH_SITE": "cross-site"},
        {"HTTP_SEC_FETCH_SITE": "same-site"},
    ],
)
def test_a_page_from_elsewhere_may_do_nothing(browser, path, environ):
    before = browser.session.trace.last
    answer = browser.ask("POST", path, b'{"op":"heal"}', **environ)
    assert answer.status == 403 and answer.said["error"]
    assert browser.session.trace.last == before and browser.session.lab is not None


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_a_page_from_elsewhere_cannot_have_the_lab_work_for_it(browser, site):
    """An image of it may name an export, which it cannot see, but which takes its time. A link to the page is fine."""
    for path in ("/trace", "/scenes", "/act", "/static/app.js", *(f"/export/{kind}" for kind in EXPORTS)):
        assert browser.get(path, HTTP_SEC_FETCH_SITE=site).status == 403, path
        assert browser.get(path, "n=n1", HTTP_SEC_FETCH_SITE="same-origin").status == 200, path
    assert browser.get("/", HTTP_SEC_FETCH_SITE=site).status == 200


def test_own_page_may(browser):
    own = {"HTTP_ORIGIN": "http://127.0.0.1:8000", "HTTP_SEC_FETCH_SITE": "same-origin"}
    assert browser.ask("POST", "/do", b'{"op":"heal"}', **own).status == 200


@pytest.mark.parametrize(
    "method, path, allowed",
    [("GET", "/do", "POST"), ("GET", "/open", "POST"), ("POST", "/", "GET"), ("PUT", "/trace", "GET"),
     ("DELETE", "/static/app.js", "GET"), ("OPTIONS", "/do", "POST"), ("TRACE", "/", "GET"),
     ("POST", "/export/svg", "GET")],
)  # fmt: skip
def test_wrong_method_is_answered_with_the_right_ones(browser, method, path, allowed):
    answer = browser.ask(method, path)
    assert answer.status == 405 and answer.headers["Allow"] == allowed


@pytest.mark.parametrize(
    "path",
    ["/static/", "/static", "/static/../session.py", "/static/..\\session.py", "/static/%2e%2e/session.py",
     "/static//app.js", "//static/app.js", "/static/app.js/", "/../../etc/passwd", "/etc/passwd", "/static/app.js\x00",
     "/export/", "/export/../trace", "/export/exe", "/trace/", "/index.html", "/static/scenes.json", "/favicon.ico"],
)  # fmt: skip
def test_nothing_else_is_to_be_had(browser, path):
    answer = browser.get(path)
    assert answer.status == 404 and "error" in answer.said


def test_long_content_is_not_even_read(browser):
    class Unread:
        def read(self, *_):
            raise AssertionError("it was read")

    for path, longest in (("/do", LONGEST_DO), ("/open", LONGEST_FILE)):
        answer = browser.ask("POST", path, **{"CONTENT_LENGTH": str(longest + 1), "wsgi.input": Unread()})
        assert answer.status == 413


@pytest.mark.parametrize("length", ["", None, "-1", "abc", "1e3", "\u00b2", "9" * 40])
def test_content_without_a_length_is_refused(browser, length):
    assert browser.ask("POST", "/do", b"{}", CONTENT_LENGTH=length).status == 411


def test_content_that_ends_too_early_is_refused(browser):
    assert browser.ask("POST", "/do", b'{"op":"heal"}', CONTENT_LENGTH="100").status == 400


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b'"heal"', b"null", b"\xff\xfe", b"[" * 60_000, b'{"op":1}', b'{"op":null}', b"{}",
     b'{"op":"no such thing"}', b'{"op":"__class__"}', b'{"op":"close"}', b'{"op":"trace"}'],
)  # fmt: skip
def test_what_is_no_operation_is_refused(browser, content):
    answer = browser.ask("POST", "/do", content)
    assert answer.status == 400 and answer.said["error"]


# --- Over a socket ------------------------------------------------------------------------------------


@pytest.fixture
def serving(browser):
    with serve(browser.session) as serving:
        yield serving


def test_only_this_machine_is_served(serving):
    assert serving._server.socket.getsockname()[0] == "127.0.0.1"
    assert urllib.request.urlopen(serving.url, timeout=PATIENCE).status == 200


def test_port_that_is_taken_is_an_error(browser, serving):
    with pytest.raises(OSError, match="in use"):
        serve(browser.session, serving.port)


def test_silent_browser_keeps_nobody_waiting(browser):
    with serve(browser.session) as serving, socket.create_connection(("127.0.0.1", serving.port)) as silent:
        silent.settimeout(5)  # less than the server is patient
        silent.sendall(b"GET /trace HT")
        assert urllib.request.urlopen(serving.url + "trace", timeout=PATIENCE).status == 200
        ended = threading.Thread(target=serving.close)
        ended.start()
        assert silent.recv(100) == b""
        ended.join(PATIENCE)
        assert not ended.is_alive()


def test_request_that_is_no_http_is_turned_away(serving):
    for garbage in (
        b"\x16\x03\x01\x02\x00\x01\n\n",
        b"GET\n\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"A" * 70_000 + b"\r\n\r\n",
    ):
        with socket.create_connection(("127.0.0.1", serving.port), timeout=PATIENCE) as connection:
            connection.sendall(garbage)
            connection.shutdown(socket.SHUT_WR)
            assert b" 200 " not in read_all(connection)
    assert urllib.request.urlopen(serving.url, timeout=PATIENCE).status == 200


def read_all(connection):
    received = b""
    try:
        for chunk in iter(lambda: connection.recv(65536), b""):
            received += chunk
    except ConnectionResetError:
        pass
    return received


def test_foreign_host_is_refused_over_the_socket_too(serving):
    request = urllib.request.Request(serving.url, headers={"Host": "evil.example"})
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request, timeout=PATIENCE)
    assert refused.value.code == 403
    refused.value.close()


# --- The command --------------------------------------------------------------------------------------


def test_recording_that_cannot_be_read_exits_with_66_and_is_named(tmp_path, capsys):
    for path, why in ((tmp_path, "Is a directory"), (tmp_path / "none.jsonl", "No such file or directory")):
        assert main(["lab", "--no-open", str(path)]) == 66
        assert capsys.readouterr().err == f"raftlite lab: {path}: {why}\n"


@pytest.mark.parametrize("how", ["--no-open", "--plain"])
def test_recording_that_cannot_be_made_exits_with_73_and_is_named(tmp_path, capsys, how):
    path = tmp_path / "missing" / "run.jsonl"
    assert main(["lab", how, "--record", str(path)]) == 73
    assert capsys.readouterr().err == f"raftlite lab: {path}: No such file or directory\n"


@pytest.mark.slow
def test_command_serves_until_ctrl_c_and_leaves_a_recording(start_child, tmp_path):
    path = tmp_path / "run.jsonl"
    command = f"import sys; from raftlite.cli import main; sys.exit(main(['lab','--no-open','--record',{str(path)!r}]))"
    child = start_child(command)
    line = child.read_line()
    (url,) = re.findall(r"http://127\.0\.0\.1:\d+/", line)
    assert json.loads(urllib.request.urlopen(url + "trace", timeout=PATIENCE).read())["live"]
    child.send_signal(signal.SIGINT)
    assert child.wait() == 130
    assert load(path).header["backend"] == "threads"
