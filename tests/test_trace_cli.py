"""`raftlite trace` as people and scripts meet it: what it prints, what it says when it cannot, how it exits."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import traces
from children import environment
from threads import PATIENCE
from traces import show

from raftlite.cli import main
from raftlite.lab.trace import Trace, load, save


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    path = tmp_path_factory.mktemp("traces") / "show.jsonl"
    save(show(), path)
    return path


@pytest.fixture
def run(capsys):
    """Run `raftlite trace` in this process; return its exit code, its output and what it says on standard error."""

    def run(*arguments):
        try:
            code = main(["trace", *map(str, arguments)])
        except SystemExit as ended:
            code = ended.code
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


# --- show -----------------------------------------------------------------------------------------


def test_show_tells_a_recording_in_words(run, recording):
    code, out, err = run("show", recording, "--no-heartbeats", "--start", "10s", "--stop", "11.3s")
    assert (code, err) == (0, "")
    assert out.splitlines() == [
        "5 members, 522 records, 30.1 s; scene hand-made; backend virtual; seed 7",
        "   164     11.000  n4  election timer runs out",
        "   165     11.000  n4  is candidate, term 2: election timer ran out",
        "   166     11.000  n4  asks n1 for its vote (message 56)",
        "   167     11.000  n4  asks n2 for its vote (message 57)",
        "   168     11.000  n4  asks n3 for its vote (message 58)",
        "   169     11.000  n4  asks n5 for its vote (message 59)",
        "   170     11.250  n1  never gets the request of n4: the link is cut (message 56)",
        "   171     11.250  n2  never gets the request of n4: the link is cut (message 57)",
    ]


def test_places_are_records_or_times(run, recording):
    trace = load(recording)
    for options, wanted in (
        (("--start", 10, "--stop", 12), range(10, 13)),
        (("--start", "30.05s"), [record["i"] for record in trace.records if record["t"] > 30.05]),
        (("--start", "400s"), []),
        (("--stop", "3.39s"), range(1, 11)),
        (("--stop", 0), []),
        (("--term", 3, "--stop", 360), range(358, 361)),
    ):
        code, out, _ = run("show", recording, "--json", *options)
        assert code == 0
        assert [json.loads(line)["i"] for line in out.splitlines()[1:]] == list(wanted), options


def test_show_as_json_is_the_recording(run, recording):
    _, out, _ = run("show", recording, "--json")
    assert [json.loads(line) for line in out.splitlines()] == [
        json.loads(line) for line in recording.read_text(encoding="utf-8").splitlines()
    ]


def test_show_at_a_moment_says_what_every_member_was(run, recording):
    code, out, _ = run("show", recording, "--at", 100)
    assert code == 0
    assert out.splitlines() == [
        "after record 100, at 7.4 s: n2 leads, 6 messages in flight",
        "",
        "NODE  ROLE      TERM  VOTE  LEADER  TIMER   LEASE",
        "n1    follower  1     n2    n2      3.50 s  -",
        "n2    leader    1     n2    n2      1.00 s  2.85 s",
        "n3    follower  1     n2    n2      3.50 s  -",
        "n4    follower  1     n2    n2      3.50 s  -",
        "n5    follower  1     n2    n2      3.50 s  -",
    ]
    _, out, _ = run("show", recording, "--at", "19s", "--json")
    moment = json.loads(out)
    assert (moment["leader"], moment["nodes"]["n4"]["role"], moment["nodes"]["n4"]["is_up"]) == (None, "stopped", False)


def test_show_why_goes_backwards_from_effect_to_cause(run, recording):
    code, out, _ = run("show", recording, "--why", 196)
    told = [line.split(None, 2)[2] for line in out.splitlines()]
    assert code == 0
    assert told[:6] == [
        "n4  its program may lead, token 2",
        "n4  is leader, term 2: 3 of 5 votes",
        "n4  counts the vote of n5: first request seen in term 2 (message 65)",
        "n5  grants n4 its vote (message 65)",
        "n5  is follower, term 2: vote granted to n4",
        "n5  grants n4 its vote: first request seen in term 2 (message 59)",
    ]
    assert told[-1] == "n2  starts"
    _, out, _ = run("show", recording, "--why", 196, "--json")
    assert json.loads(out.splitlines()[1])["role"] == "leader"


def test_show_as_a_table(run, recording):
    _, out, _ = run("show", recording, "--table", "--stop", 3)
    assert out.splitlines()[0].split() == ["TIME", "n1", "n2", "n3", "n4", "n5"]


def test_a_recording_that_is_cut_off_says_so(run, recording, tmp_path):
    path = tmp_path / "cut.jsonl"
    path.write_bytes(recording.read_bytes()[:-10])
    code, out, _ = run("show", path)
    assert code == 0
    assert "line 523 is cut off and left out" in out.splitlines()[0]


def test_what_a_file_says_does_not_reach_the_terminal_as_it_is(run, tmp_path):
    """Neither colours nor a title nor a command for the terminal."""
    trace = Trace(traces.header(["n\u0435"], scene="\x1b]0;x\x07"))
    trace.append("note", None, 0, text="\x1b[31mred\x9b1m", by="\x1b[2J")
    path = tmp_path / "run.jsonl"
    save(trace, path)
    for arguments in (("show", path), ("show", path, "--table"), ("show", path, "--json"), ("grep", "red", path),
                      ("show", path, "--at", 1)):  # fmt: skip
        code, out, _ = run(*arguments)
        assert code == 0
        assert not set(out) & set("\x1b\x07\x9b")


# --- lint -----------------------------------------------------------------------------------------


def test_lint_of_a_sound_recording(run, recording):
    assert run("lint", recording) == (0, f"{recording}: 522 records, no problem\n", "")


def test_lint_exits_with_1_and_names_what_is_wrong(run, recording, tmp_path):
    trace = show()
    trace.append("timer", "n9", 99, timer="election")
    path = tmp_path / "wrong.jsonl"
    save(trace, path)
    code, out, _ = run("lint", recording, path)
    assert code == 1
    assert out.splitlines()[1] == f'{path}: record 522: "timer" of n9, which is not started'
    code, out, _ = run("lint", "--json", path, recording)
    assert code == 1
    assert [json.loads(line)["records"] for line in out.splitlines()] == [523, 522]
    assert len(json.loads(out.splitlines()[0])["problems"]) == 1


def test_lint_hands_no_text_of_a_file_to_the_terminal_as_it_is(run, tmp_path):
    """Neither a command for the terminal nor a line that it has not written itself."""
    trace = Trace(traces.header(["n1", "n2"]))
    trace.append("start", "n1", 0, inc=1)
    trace.append("start", "n2", 0, inc=1)
    for n in ("n1", "n2"):
        trace.append("state", n, 0, role="follower", term=1, vote=None, votes=[], leader=None, deadline=None, span=None,
                     lease=None, why="")  # fmt: skip
    trace.append("send", "n1", 0, m=1, to="n2", type="\x1b[2J\nrun.jsonl: 9 records, no problem")
    trace.append("recv", "n2", 0, m=1, **{"from": "n1"}, type="heartbeat")
    save(trace, tmp_path / "run.jsonl")
    code, out, _ = run("lint", tmp_path / "run.jsonl")
    assert code == 1 and "was sent with type ?[2J?run" in out
    assert len(out.splitlines()) == 1 and "\x1b" not in out


def test_lint_checks_the_other_files_where_one_cannot_be_read(run, recording, tmp_path):
    poem, missing = tmp_path / "poem.txt", tmp_path / "none.jsonl"
    poem.write_text("Rosen\n", encoding="utf-8")
    code, out, err = run("lint", poem, recording, missing)
    assert code == 66
    assert out == f"{recording}: 522 records, no problem\n"
    assert [line.split(": ")[1] for line in err.splitlines()] == [str(poem), str(missing)]
    assert run("lint", poem, recording)[0] == 65


# --- grep -----------------------------------------------------------------------------------------


def test_grep_finds_words(run, recording):
    code, out, _ = run("grep", "is LEADER", recording)
    assert code == 0
    assert [line.split()[2] for line in out.splitlines()] == ["n2", "n4", "n3"]


def test_grep_by_member_kind_and_part(run, recording):
    assert run("grep", "", recording, "--kind", "stop", "--kind", "start", "--node", "n4", "--count")[1] == "3\n"
    assert run("grep", "is leader", recording, "--term", 2, "--kind", "state", "--count")[1] == "1\n"
    assert run("grep", "heartbeat", recording, "--no-heartbeats", "--kind", "send", "--count") == (1, "0\n", "")


def test_grep_as_json_prints_records(run, recording):
    _, out, _ = run("grep", "leader", recording, "--json", "--node", "n3", "--kind", "state")
    assert json.loads(out)["role"] == "leader"


def test_grep_that_finds_nothing_exits_with_1(run, recording):
    assert run("grep", "no such thing", recording) == (1, "", "")


# --- diff -----------------------------------------------------------------------------------------


def test_diff_of_the_same_exits_with_0(run, recording):
    code, out, _ = run("diff", recording, recording)
    assert code == 0
    assert {line[0] for line in out.splitlines()} == {" "}
    assert json.loads(run("diff", "--json", recording, recording)[1])["same"] is True


def test_diff_shows_what_a_member_became_in_one_of_them_only(run, recording, tmp_path):
    trace = show()
    trace.append("pause", "n1", 31)
    path = tmp_path / "other.jsonl"
    save(trace, path)
    code, out, _ = run("diff", recording, path)
    assert code == 1
    assert out.splitlines()[-1] == "+                31.000  n1 paused"
    assert run("diff", path, recording)[1].splitlines()[-1] == "-     31.000             n1 paused"
    found = json.loads(run("diff", "--json", recording, path)[1])
    assert found["same"] is False
    assert found["changes"][-1] == {"side": "second", "node": "n1", "became": "paused", "first_t": None, "second_t": 31}


def test_times_make_no_difference(run, tmp_path):
    for name, delay in (("a", 1.0), ("b", 2.0)):
        story = traces.Story("n1", "n2")
        story.start()
        story.run(delay)
        story.state("n1", role="candidate", term=1)
        save(story.trace, tmp_path / name)
    code, out, _ = run("diff", tmp_path / "a", tmp_path / "b")
    assert code == 0
    assert out.splitlines()[-1].split() == ["1.000", "2.000", "n1", "candidate,", "term", "1"]


def test_recordings_of_very_many_changes_are_compared_up_to_the_first_difference(run, tmp_path):
    for name, extra in (("a", 0), ("b", 7)):
        trace = Trace(traces.header(["n1"]))
        for t in range(8_000):
            trace.append("state", "n1", t, role="follower", term=t + (extra if t > 4_000 else 0))
        save(trace, tmp_path / name)
    code, out, _ = run("diff", tmp_path / "a", tmp_path / "b")
    assert code == 1
    assert [line[0] for line in out.splitlines()[-3:]] == [" ", "-", "+"]
    assert len(out.splitlines()) == 4_003


def test_recordings_without_changes_are_the_same(run, tmp_path):
    save(Trace(traces.header()), tmp_path / "a")
    assert run("diff", tmp_path / "a", tmp_path / "a") == (0, "no member changes its role or its term in either\n", "")


# --- export ---------------------------------------------------------------------------------------

BEGINNINGS = {
    "svg": "<svg ",
    "mermaid": "sequenceDiagram",
    "shiviz": "(?<t>",
    "text": "     TIME",
    "jsonl": '{"k":"header"',
}


@pytest.mark.parametrize("kind", BEGINNINGS)
def test_export_writes_each_form_to_the_output_or_to_a_file(run, recording, tmp_path, kind):
    code, out, err = run("export", recording, "--to", kind)
    assert (code, err) == (0, "")
    assert out.startswith(BEGINNINGS[kind])
    assert run("export", recording, "--to", kind, "-o", tmp_path / "x") == (0, "", "")
    assert (tmp_path / "x").read_text(encoding="utf-8") == out


@pytest.mark.parametrize(("name", "kind"), [("a.svg", "svg"), ("a.MMD", "mermaid"), ("a.log", "shiviz"),
                                            ("a.txt", "text"), ("a.jsonl", "jsonl")])  # fmt: skip
def test_the_name_of_the_output_tells_its_form(run, recording, tmp_path, name, kind):
    assert run("export", recording, "-o", tmp_path / name)[0] == 0
    assert (tmp_path / name).read_text(encoding="utf-8").startswith(BEGINNINGS[kind])


def test_options_reach_the_exporters(run, recording):
    assert "events in order" in run("export", recording, "--to", "svg", "--time", "order")[1]
    assert '"net"' in run("export", recording, "--to", "shiviz", "--losses")[1]
    assert "heartbeat" not in run("export", recording, "--to", "mermaid", "--no-heartbeats")[1]
    assert run("export", recording, "--to", "jsonl", "--stop", 7)[1].count("\n") == 8


# --- What it says when it cannot ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((), "the following arguments are required: ACTION"),
        (("show",), "the following arguments are required: FILE"),
        (("show", "{}", "--start", "3m"), "--start '3m' is neither the number of a record (412) nor a time (12.5s)"),
        (("show", "{}", "--at", "-1"), "--at '-1' is neither the number of a record (412) nor a time (12.5s)"),
        (("show", "{}", "--why", "9999"), "--why 9999: there are records from 1 to 522"),
        (("show", "{}", "--why", "0"), "--why 0: there are records from 1 to 522"),
        (("grep", "(", "{}"), "the pattern '(' is no regular expression: missing ), unterminated subpattern"),
        (("export", "{}"), "--to is missing: one of html, jsonl, mermaid, shiviz, svg, text"),
        (("export", "{}", "-o", "x.png"), "--to is missing: one of html, jsonl, mermaid, shiviz, svg, text"),
        (("export", "{}", "--to", "png"), "invalid choice: 'png'"),
        (("export", "{}", "--to", "html", "--term", "3"), "--to html has every record up to --stop"),
        (("export", "{}", "--to", "jsonl", "--start", "3"), "--to jsonl has every record up to --stop"),
    ],
)
def test_wrong_arguments_exit_with_64_and_a_sentence(run, recording, arguments, sentence):
    code, out, err = run(*(each.format(recording) if each == "{}" else each for each in arguments))
    assert (code, out) == (64, "")
    assert sentence in err.splitlines()[-1]


COMMANDS = [
    ("show", "{}"),
    ("lint", "{}"),
    ("grep", "x", "{}"),
    ("diff", "{}", "{}"),
    ("export", "{}", "--to", "svg"),
]


@pytest.mark.parametrize("command", COMMANDS)
def test_a_file_that_is_no_recording_exits_with_65_and_names_the_line(run, tmp_path, command):
    path = tmp_path / "poem.txt"
    path.write_text("Rosen\n", encoding="utf-8")
    code, out, err = run(*(str(path) if each == "{}" else each for each in command))
    assert (code, out) == (65, "")
    assert err == (
        f"raftlite trace {command[0]}: {path}: line 1: it is no raftlite trace: it is not JSON: Expecting value\n"
    )


@pytest.mark.parametrize("command", COMMANDS)
def test_a_file_that_is_not_there_exits_with_66_and_is_named(run, tmp_path, command):
    path = tmp_path / "none\x1b.jsonl"
    code, out, err = run(*(str(path) if each == "{}" else each for each in command))
    assert (code, out) == (66, "")
    assert err == f"raftlite trace {command[0]}: {tmp_path}/none?.jsonl: No such file or directory\n"
    assert run("lint", tmp_path)[2] == f"raftlite trace lint: {tmp_path}: Is a directory\n"
    assert run("lint", "a\0b")[0] == 66


def test_an_output_that_cannot_be_made_exits_with_73_and_is_named(run, recording, tmp_path):
    path = tmp_path / "missing" / "x.svg"
    assert run("export", recording, "-o", path) == (
        73,
        "",
        f"raftlite trace export: {path}: No such file or directory\n",
    )


def process(*arguments, **options):
    command = [sys.executable, "-m", "raftlite", "trace", *map(str, arguments)]
    buffered = {name: value for name, value in environment().items() if name != "PYTHONUNBUFFERED"}
    return subprocess.Popen(command, stderr=subprocess.PIPE, env=buffered, **options)


def test_a_reader_that_goes_away_ends_it_quietly(recording):
    with process("export", recording, "--to", "svg", stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as child:
        child.stdout.read(10)
        child.stdout.close()
        assert child.stderr.read() == b""
        assert child.wait(PATIENCE) == 0


def test_an_output_that_is_full_exits_with_74(recording):
    with open("/dev/full", "wb") as full, process("show", recording, stdin=subprocess.DEVNULL, stdout=full) as child:
        assert b"the output cannot be written: No space left on device" in child.stderr.read()
        assert child.wait(PATIENCE) == 74


@pytest.mark.slow
def test_a_recording_may_come_from_the_input(recording):
    with open(recording, "rb") as file, process("lint", "-", stdin=file, stdout=subprocess.PIPE) as child:
        assert child.stdout.read() == b"-: 522 records, no problem\n"
        assert child.wait(PATIENCE) == 0
    with process("lint", "-", stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        out, _ = child.communicate(recording.read_bytes(), PATIENCE)
        assert (out, child.returncode) == (b"-: 522 records, no problem\n", 0)


def test_the_other_commands_do_not_load_it(recording):
    """No member needs it in its memory."""
    program = (
        "import sys; from raftlite import cli; cli._parser(); print(*(m for m in sys.modules if 'raftlite.lab' in m))"
    )
    out = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment(), check=True)
    assert set(out.stdout.split()) <= {"raftlite.lab", "raftlite.lab.trace_cli", "raftlite.lab.lab_cli"}
