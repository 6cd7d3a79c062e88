"""Recordings: numbered as they come, readable after a crash, folded to what was seen, and never believed blindly."""

from __future__ import annotations

import gzip
import json
import queue
import sys
import threading

import pytest
import traces
from threads import PATIENCE
from traces import Story, show

from raftlite.lab import trace_file
from raftlite.lab.trace import Trace, TraceError, TraceFile, clocks, fold, leaders_by_term, lint, load, loads, save, why

STATE = {"role": "follower", "term": 1, "vote": None, "votes": [], "leader": None, "deadline": 4.2, "span": 4.2}


@pytest.fixture
def story():
    story = Story("n1", "n2", "n3")
    story.start()
    return story


def lines(*records, **changes):
    """A file with a header and these records, numbered where they are not."""
    numbered = [{"i": i, "t": 0, "n": None, **record} for i, record in enumerate(records, 1)]
    return "".join(json.dumps(each) + "\n" for each in [traces.header(**changes), *numbered])


def numbers(trace, kind, **fields):
    return [
        each["i"] for each in trace.records if each["k"] == kind and all(each.get(f) == v for f, v in fields.items())
    ]


# --- Trace ----------------------------------------------------------------------------------------


def test_records_are_numbered_from_1_and_their_time_never_falls():
    trace = Trace(traces.header())
    for t in (1.0, 2.00000049, 1.5):
        trace.append("note", None, t, text="", kind="note")
    assert [(each["i"], each["t"]) for each in trace.records] == [(1, 1.0), (2, 2.0), (3, 2.0)]
    assert (trace.last, trace.t) == (3, 2.0)


def test_records_are_kept_as_a_file_gives_them_back():
    """A live page and a replay must not see different things."""
    trace = Trace(traces.header())
    record = trace.append("fault", None, 0, op="partition", groups=({"n2", "n1"}, ("n3",)), share=0.1234567890)
    assert record["groups"] == [["n1", "n2"], ["n3"]]
    assert record["share"] == 0.123457


def test_after_gives_the_records_that_somebody_has_not_seen():
    trace = show()
    assert trace.after(0, 3) == trace.records[:3]
    assert trace.after(trace.last - 1) == trace.records[-1:]
    assert trace.after(trace.last) == trace.after(10**9) == trace.after(0, -1) == []
    assert trace.after(-5, 1) == trace.records[:1]


def test_a_listener_gets_every_later_record_and_a_full_one_holds_up_nobody():
    trace = Trace(traces.header())
    trace.append("note", None, 0, text="before")
    wide, narrow = queue.Queue(), queue.Queue(1)
    trace.add_listener(wide)
    trace.add_listener(narrow)
    for text in "abc":
        trace.append("note", None, 0, text=text)
    assert [wide.get_nowait()["text"] for _ in "abc"] == ["a", "b", "c"]
    assert narrow.get_nowait()["text"] == "a"
    assert (trace.missed(wide), trace.missed(narrow)) == (0, 2)
    trace.remove_listener(wide)
    trace.append("note", None, 0, text="later")
    assert wide.empty()


@pytest.fixture
def threads_take_turns_often():
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def test_several_threads_may_record_and_no_number_is_given_twice(threads_take_turns_often):
    trace = Trace(traces.header())
    begin = threading.Barrier(4)

    def record():
        begin.wait()
        for t in range(500):
            trace.append("note", None, t, text="")

    threads = [threading.Thread(target=record) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [each["i"] for each in trace.records] == list(range(1, 2001))
    assert lint(trace) == []


def test_members_that_turn_up_later_are_members():
    trace = Trace(traces.header(["n2", "n1"]))
    trace.append("start", "n9", 0, inc=1)
    assert trace.nodes == ["n2", "n1", "n9"]


# --- Files ----------------------------------------------------------------------------------------


def test_what_is_saved_is_what_is_loaded(tmp_path):
    trace = show()
    save(trace, tmp_path / "run.jsonl")
    again = load(tmp_path / "run.jsonl")
    assert again.header == trace.header
    assert again.records[:-1] == trace.records
    assert again.records[-1] == {**again.records[-1], "k": "end", "events": trace.last, "dropped": 0}
    assert (again.truncated, lint(again)) == ("", [])


def test_letters_of_every_script_are_saved_as_they_are(tmp_path):
    trace = Trace(traces.header(["ñ1"]))
    trace.append("note", None, 0, text="Führung 领导者 👑")
    save(trace, tmp_path / "run.jsonl")
    assert "领导者 👑" in (tmp_path / "run.jsonl").read_text(encoding="utf-8")
    assert load(tmp_path / "run.jsonl").records[0] == trace.records[0]


def test_a_file_is_readable_while_it_is_written(tmp_path):
    """As after a crash of the recorder: nothing waits in a buffer."""
    trace = Trace(traces.header())
    written = threading.Event()
    with TraceFile(trace, tmp_path / "run.jsonl") as file:
        write = file._write
        file._write = lambda text: (write(text), '"this"' in text and written.set())
        trace.append("note", None, 0, text="this")
        assert written.wait(PATIENCE)
        assert load(tmp_path / "run.jsonl").records == trace.records


def test_records_made_while_a_file_is_written_are_all_in_it(tmp_path):
    trace = show()
    with TraceFile(trace, tmp_path / "run.jsonl"):
        for i in range(2000):
            trace.append("note", None, 100, text=str(i))
    assert load(tmp_path / "run.jsonl").records[:-1] == trace.records


def test_a_file_says_what_its_recorder_has_lost(tmp_path):
    file = TraceFile(Trace(traces.header()), tmp_path / "run.jsonl")
    file.close(dropped=3)
    file.close()
    assert lint(load(tmp_path / "run.jsonl")) == ["record 1: 3 records were lost while recording"]


def test_a_disk_that_is_full_stops_nobody_and_what_it_did_not_take_is_counted_and_logged(caplog):
    trace = show()
    file = TraceFile(trace, "/dev/full")
    trace.append("note", None, 100, text="goes on")
    file.close()
    assert file.dropped == trace.last
    assert "No space left" in file.error
    assert file.trouble == "The recording cannot be written to full any more: No space left on device"
    assert caplog.messages == [f"/dev/full: No space left on device: {trace.last} records are not in the recording"]
    file.close()
    assert len(caplog.messages) == 1


def test_a_file_that_cannot_be_made_is_an_error_at_once(tmp_path):
    with pytest.raises(FileNotFoundError):
        TraceFile(show(), tmp_path / "missing" / "run.jsonl")


def test_a_packed_file_is_read(tmp_path):
    save(show(), tmp_path / "run.jsonl")
    data = (tmp_path / "run.jsonl").read_bytes()
    (tmp_path / "run.jsonl.gz").write_bytes(gzip.compress(data))
    assert load(tmp_path / "run.jsonl.gz").records == load(tmp_path / "run.jsonl").records
    assert loads(gzip.compress(data)).records == loads(data).records == loads(data.decode()).records


@pytest.mark.parametrize("cut", [1, 5, 60])
def test_a_last_line_that_is_cut_off_is_left_out_and_said(cut):
    trace = show()
    data = "".join(json.dumps(each) + "\n" for each in [trace.header, *trace.records])
    again = loads(data[:-cut])
    if cut == 1:  # whole but for its newline
        assert (again.records, again.truncated) == (trace.records, "")
    else:
        assert again.records == trace.records[:-1]
        assert f"line {trace.last + 1} is cut off" in again.truncated
        assert again.truncated in lint(again)


def test_a_packed_file_that_is_cut_off_is_read_as_far_as_it_goes():
    trace = show()
    data = gzip.compress("".join(json.dumps(each) + "\n" for each in [trace.header, *trace.records]).encode())
    again = loads(data[: len(data) // 2])
    assert 0 < again.last < trace.last
    assert again.records == trace.records[: again.last]
    assert "cut off" in again.truncated


def test_what_a_later_version_adds_is_left_alone():
    trace = loads(lines({"k": "weather", "n": "n1", "sky": {"blue": True}}, {"k": "note", "text": "x", "colour": []}))
    assert trace.records[0]["sky"] == {"blue": True}
    assert lint(trace) == []
    assert fold(trace).t == 0


def test_windows_may_have_had_the_file():
    data = b"\xef\xbb\xbf" + lines({"k": "note", "text": "x"}).replace("\n", "\r\n").encode() + b"\r\n"
    assert loads(data).last == 1


def test_a_file_with_gaps_is_numbered_anew_and_lint_says_so():
    """As after `grep`; everything else may then rely on the numbers."""
    trace = loads(lines({"k": "note", "text": "a", "i": 7, "t": 3}, {"k": "note", "text": "b", "i": 9, "t": 2}))
    assert [(each["i"], each["t"]) for each in trace.records] == [(1, 3), (2, 3)]
    assert lint(trace) == [
        "line 2: the record says that it is 7, but it is 1",
        "line 3: the record says that it is 9, but it is 2",
        "record 2: the time falls from 3 to 2",
    ]


STATE_OF_N1 = {"k": "state", "n": "n1", "role": "leader", "term": 1}


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"", "the file is empty: it is no raftlite trace"),
        (b"hello\n", "line 1: it is no raftlite trace: it is not JSON: Expecting value"),
        (b"hello", "line 1: it is not JSON: Expecting value: it is no raftlite trace"),
        (b"\xff\xfe\n", "line 1: it is no raftlite trace: it is not UTF-8"),
        (b"[]\n", "line 1: it is no raftlite trace: it is a list of 0, but must be an object"),
        (b'{"k":"state"}\n', "line 1: it is no raftlite trace: a trace begins with a header"),
        (b'{"k":"header","format":"tar","v":1}\n', "line 1: it is no raftlite trace"),
        (lines(v=2), "line 1: the trace has version 2, but this raftlite reads version 1: a newer one may read it"),
        (lines(v="1"), "line 1: the version of the trace is '1', but must be a whole number from 1"),
        (lines(nodes="n1"), """line 1: "nodes" of the header is 'n1', but must be a list"""),
        (lines(nodes=["a", "a"]), 'line 1: "nodes" of the header is a list of 2, but must be a list of at most 256'),
        (lines(nodes=["a", "\n"]), 'line 1: "nodes" of the header'),
        (lines(nodes=[str(n) for n in range(300)]), "line 1: "),
        (lines(config=[]), 'line 1: "config" of the header is a list of 0, but must be an object'),
        (lines(config={"delay": "fast"}), """line 1: "delay" of the record is 'fast', but must be a pair of seconds"""),
        (lines({"k": "note"}), 'line 2: the "note" record has no "text"'),
        (lines({"text": "a"}), 'line 2: the record has no "k"'),
        (lines({"k": "note", "text": 1}), 'line 2: "text" of the "note" record is 1, but must be a text'),
        (lines({"k": "note", "text": "a" * 10_001}), 'line 2: "text" of the "note" record'),
        (lines({**STATE_OF_N1, "term": 2**60}), "but must be a whole number from 0 to 9007199254740992"),
        (lines({**STATE_OF_N1, "term": True}), '"term" of the "state" record is true'),
        (lines({**STATE_OF_N1, "term": -1}), '"term" of the "state" record is -1'),
        (lines({**STATE_OF_N1, "role": "king"}), "but must be one of follower, pre-candidate, candidate, leader"),
        (lines({**STATE_OF_N1, "role": []}), '"role" of the "state" record is a list of 0'),
        (lines({**STATE_OF_N1, "n": None}), '"n" of the "state" record is null, but must be a node id'),
        (lines({**STATE_OF_N1, "n": {"a": 1}}), '"n" of the "state" record is an object'),
        (lines({**STATE_OF_N1, "votes": [[]]}), '"votes" of the "state" record is a list of 1'),
        (lines({"k": "links", "cut": [["n1"]]}), 'line 2: "cut" of the "links" record'),
        (lines({"k": "note", "text": "a", "t": float("nan")}), "line 2: it is not JSON: NaN is no number"),
        (lines({"k": "note", "text": "a", "t": float("inf")}), "line 2: it is not JSON: Infinity is no number"),
        (lines({"k": "note", "text": "a", "t": 1e300}), 'line 2: "t" of the "note" record is 1e+300'),
        (lines({"k": "note", "text": "a", "t": -1}), 'line 2: "t" of the "note" record is -1'),
        (lines({"k": "note", "text": "a", "i": 0}), 'line 2: "i" of the "note" record is 0'),
        (lines().encode() + b'{"i":' + b"9" * 5000 + b"}\n", "line 2: it is not JSON: a number has too many digits"),
        (lines().encode() + b'{"i":1e999}\n', "line 2: it is not JSON: a number is too large"),
        (lines().encode() + b'{"k":"later","i":1,"t":0,"x":[-1e999]}\n', "line 2: it is not JSON: a number is too"),
        (lines(config={"majority": {"toString": 1}}), '"majority" of the record is an object'),
        (lines({"k": "fault", "op": "partition", "groups": 5}), '"groups" of the "fault" record is 5, but must be'),
        (lines({"k": "fault", "op": "partition", "groups": [["n1"], 5]}), '"groups" of the "fault" record'),
        (lines({"k": "fault", "op": "align", "nodes": "n1"}), """"nodes" of the "fault" record is 'n1'"""),
        (lines({"k": "fault", "op": "cut", "a": {"toString": 1}, "b": "n2"}), '"a" of the "fault" record is an object'),
        (lines({"k": "fault", "op": "delay", "delay": [{}]}), '"delay" of the "fault" record is a list of 1'),
        (lines({"k": "fault", "op": "loss", "loss": {}}), '"loss" of the "fault" record is an object'),
        (lines({"k": "fault", "op": "scale", "scale": []}), '"scale" of the "fault" record is a list of 0'),
        (lines({"k": "fault", "op": "rules", "rules": {"a": {"toString": 1}}}), '"rules" of the "fault" record'),
        (lines({"k": "links", "cut": [], "delay": [{}, {}]}), '"delay" of the "links" record is a list of 2'),
        (lines().encode() + b'{"k":' + b"[" * 100_000 + b"\n", "line 2: it"),
        (lines().encode() + b'{"k":"note","text":"\\ud800","i":1,"t":0}\n', "line 2: it holds half a character"),
        (lines().encode() + b'"' + b"a" * 2_000_000, "line 2: it is longer than 1,000,000 bytes"),
        (lines(*({"k": "start", "n": f"x{n}", "inc": 1} for n in range(300))), "line 253: more than 256 members"),
        (b"\x1f\x8bnot really", "line 1: the file cannot be unpacked"),
    ],
)
def test_a_hostile_file_gets_a_sentence_with_its_line(data, sentence):
    with pytest.raises(TraceError) as refused:
        loads(data)
    assert sentence in str(refused.value)
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 250


def test_deep_nesting_is_refused_or_read_but_never_the_end_of_python():
    for depth in (100, 1_000, 10_000, 400_000):
        content = b'{"i":1,"t":0,"k":"later","x":' + b"[" * depth + b"]" * depth + b"}\n"
        try:
            trace = loads(lines().encode() + content)
        except TraceError as error:
            assert "line 2" in str(error)
        else:
            assert trace.last == 1


def test_a_line_without_end_is_not_read_into_memory():
    """A gigabyte, of which a thousandth is looked at."""

    class Endless:
        def __init__(self):
            self.given = 0

        def readline(self, size):
            self.given += size
            return b"a" * size

    file = Endless()
    with pytest.raises(TraceError, match="longer than"):
        trace_file._Reader(file).read()
    assert file.given == trace_file.LONGEST_LINE + 1


def test_a_file_without_end_is_refused_at_the_bound(monkeypatch):
    monkeypatch.setattr(trace_file, "LARGEST_FILE", 5_000)
    with pytest.raises(TraceError, match="the trace is longer than"):
        loads(lines(*({"k": "note", "text": "a" * 50} for _ in range(100))))


def test_of_too_many_records_the_first_are_read_and_that_is_said(monkeypatch):
    """Whoever recorded for a night did not do so in vain."""
    monkeypatch.setattr(trace_file, "MOST_RECORDS", 9)
    whole = loads(lines(*[{"k": "note", "text": "a"}] * 9))
    assert (whole.last, whole.truncated) == (9, "")
    part = loads(lines(*[{"k": "note", "text": "a"}] * 30))
    assert part.records == whole.records
    assert part.truncated == "line 11 and all after it are left out: 9 records at most"
    assert lint(part) == [part.truncated]


def test_a_path_that_cannot_be_read_is_an_oserror(tmp_path):
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "none.jsonl")
    with pytest.raises(IsADirectoryError):
        load(tmp_path)


# --- fold -----------------------------------------------------------------------------------------


def test_the_fold_shows_each_node_as_it_was_last_seen():
    trace = show()
    view = fold(trace)
    assert {view.nodes[n].term for n in traces.FIVE} == {4}
    assert view.nodes["n4"].inc == 2
    assert view.leader == "n3"
    assert view.nodes["n1"].leader == "n3"
    assert view.checks["one leader per term"]["ok"]
    assert (view.i, view.t) == (trace.last, trace.t)


def test_the_fold_up_to_a_record_is_what_was_live_at_it():
    trace = show()
    live = fold(trace, 0)
    for record in trace.records:
        live.apply(record)
        if record["i"] % 40 == 0:
            then = fold(trace, record["i"])
            assert (then.nodes, then.in_flight, then.links, then.t) == (
                live.nodes, live.in_flight, live.links, live.t,
            )  # fmt: skip


def test_before_anything_has_started_everybody_is_down():
    view = fold(show(), 0)
    assert [(each.role, each.is_up, each.inc) for each in view.nodes.values()] == [("stopped", False, 0)] * 5
    assert view.links.delay == (0.4, 0.6)
    assert view.leader is None


def test_a_message_is_in_flight_until_it_is_received_or_lost(story):
    m = story.send("n1", "n2", "heartbeat")
    story.send("n1", "n3", "heartbeat", lost="loss")
    assert list(fold(story.trace).in_flight) == [m, m + 1]
    story.run(0.3)
    assert list(fold(story.trace).in_flight) == [m]
    assert fold(story.trace).in_flight[m]["to"] == "n2"
    story.run(0.3)
    assert fold(story.trace).in_flight == {}


def test_a_message_that_is_doubled_is_in_flight_until_both_copies_have_ended(story):
    m = story.send("n1", "n2", "heartbeat")
    story.add("fault", op="duplicate", m=m, by="ui")
    story.run(0.6)
    assert list(fold(story.trace).in_flight) == [m]
    story.add("recv", "n2", **{"from": "n1"}, m=m, type="heartbeat", result="accepted", copy=1)
    assert fold(story.trace).in_flight == {}
    assert lint(story.trace) == []


def test_a_stopped_node_keeps_its_vote_and_nothing_else(story):
    story.run(1)
    story.campaign("n1")
    story.run(2)
    story.stop("n1", why="power")
    node = fold(story.trace).nodes["n1"]
    assert (node.role, node.is_up, node.why) == ("stopped", False, "power")
    assert (node.term, node.vote, node.votes, node.leader, node.deadline, node.lease) == (1, "n1", (), None, None, None)


def test_a_paused_node_is_up_and_still_thinks_that_it_leads(story):
    story.campaign("n1")
    story.run(1.2)
    story.add("pause", "n1")
    node = fold(story.trace).nodes["n1"]
    assert (node.is_paused, node.is_up, node.role) == (True, True, "leader")
    story.add("resume", "n1")
    assert not fold(story.trace).nodes["n1"].is_paused


def test_nobody_leads_once_the_lease_is_over(story):
    story.campaign("n1")
    story.run(1.2)
    view = fold(story.trace)
    assert view.leader == "n1"
    assert view.leader_at(view.nodes["n1"].lease) is None
    story.add("note", text="much later")
    story.now = 100.0
    story.add("note", text="much later")
    assert fold(story.trace).leader is None


def test_of_two_who_say_that_they_lead_the_one_of_the_later_term_does(story):
    for n, term in (("n1", 3), ("n2", 4), ("n3", 2)):
        story.state(n, role="leader", term=term, lease=50.0)
    assert fold(story.trace).leader == "n2"


def test_the_links_are_those_of_the_last_change():
    trace = show()
    (partition,) = numbers(trace, "fault", op="partition")
    assert fold(trace, partition + 1).links.is_cut("n1", "n3")
    assert not fold(trace, partition + 1).links.is_cut("n1", "n2")
    assert fold(trace).links.cut == ()


def test_a_copy_of_a_view_stays_while_the_original_goes_on():
    trace = show()
    view = fold(trace, 100)
    copy = view.copy()
    for record in trace.records[100:]:
        view.apply(record)
    then = fold(trace, 100)
    assert (copy.nodes, copy.in_flight, copy.t, copy.checks) == (then.nodes, then.in_flight, then.t, then.checks)
    assert copy._copies == then._copies


def test_the_fold_knows_whether_the_clock_stands(story):
    story.add("clock", op="pause", scale=0.5)
    assert (fold(story.trace).is_clock_paused, fold(story.trace).scale) == (True, 0.5)
    story.add("clock", op="step", scale=0.5)
    assert fold(story.trace).is_clock_paused
    story.add("clock", op="play", scale=0.5)
    assert not fold(story.trace).is_clock_paused


# --- Causes ---------------------------------------------------------------------------------------


def test_leaders_by_term_names_everybody_who_led():
    trace = show()
    assert leaders_by_term(trace) == {1: ["n2"], 2: ["n4"], 4: ["n3"]}
    trace.append("state", "n5", 99, role="leader", term=4)
    assert leaders_by_term(trace)[4] == ["n3", "n5"]


def test_a_cause_is_found_for_each_step_of_an_election():
    """From the leader back to the timer that ran out, as a student asks."""
    trace = show()
    (elected, *_) = numbers(trace, "event", event="elected")
    chain = [trace.records[elected - 1]]
    while why(trace, chain[-1]["i"]):
        chain.append(trace.records[why(trace, chain[-1]["i"])[0] - 1])
    words = [f"{each['n']} {each['k']}" for each in chain]
    assert words[:8] == [
        "n2 event", "n2 state", "n2 recv", "n3 send", "n3 state", "n3 recv", "n2 send", "n2 state",
    ]  # fmt: skip
    assert words[8:] == ["n2 timer", "n2 state", "n2 start"]


def test_a_loss_is_caused_by_its_sending_and_by_what_cut_the_link():
    trace = show()
    lost = numbers(trace, "lost", why="cut")[0]
    causes = {trace.records[i - 1]["k"]: trace.records[i - 1] for i in why(trace, lost)}
    assert sorted(causes) == ["links", "send"]
    assert causes["send"]["m"] == trace.records[lost - 1]["m"]
    assert [trace.records[i - 1]["op"] for i in why(trace, causes["links"]["i"])] == ["partition"]
    down = numbers(trace, "lost", why="down")[0]
    assert sorted(trace.records[i - 1]["k"] for i in why(trace, down)) == ["send", "stop"]


def test_a_stop_is_caused_by_whoever_did_it():
    trace = show()
    (stop,) = numbers(trace, "stop")
    assert [trace.records[i - 1]["op"] for i in why(trace, stop)] == ["kill"]
    restart = numbers(trace, "start", inc=2)[0]
    assert [trace.records[i - 1]["op"] for i in why(trace, restart)] == ["start"]


def test_what_has_no_cause_and_what_is_not_there_have_none():
    trace = show()
    assert why(trace, 1) == why(trace, 0) == why(trace, -1) == why(trace, trace.last + 1) == []


def test_clocks_say_what_may_have_led_to_what(story):
    story.send("n1", "n2", "heartbeat")
    story.run(1.0)
    story.send("n2", "n3", "heartbeat")
    story.run(1.0)
    shown = {(each["n"], each["k"]): clock for each, clock in clocks(story.trace.records) if each["k"] != "state"}
    assert shown["n1", "send"] == {"n1": 3}
    assert shown["n2", "recv"] == {"n1": 3, "n2": 3}
    assert shown["n3", "recv"] == {"n1": 3, "n2": 4, "n3": 3}


# --- lint -----------------------------------------------------------------------------------------


def test_a_sound_trace_has_no_problems():
    assert lint(show()) == []
    assert lint(Trace(traces.header())) == []


def _vote_twice(story):
    story.state("n1", term=1, vote="n2")
    story.state("n1", term=1, vote="n3")


def _fall(story):
    story.state("n1", term=2, vote=None)
    story.state("n1", term=1)


def _arrive_twice(story):
    m = story.send("n1", "n2", "heartbeat")
    story.run(1.0)
    story.receive(m, "n1", "n2", "heartbeat", "accepted", "")


def _arrive_elsewhere(story):
    m = story.send("n1", "n2", "heartbeat", lost="loss")
    story.receive(m, "n1", "n3", "heartbeat", "accepted", "")


def _become_another(story):
    m = story.send("n1", "n2", "heartbeat", lost="loss")
    story.receive(m, "n1", "n2", "vote_req", "accepted", "")


def _act_while(what):
    def act(story):
        if what == "stopped":
            story.stop("n1")
        else:
            story.add("pause", "n1")
        story.add("timer", "n1", timer="election")

    return act


def _send_same(story):
    story.send("n1", "n2", "heartbeat")
    story._m -= 1
    story.send("n1", "n2", "heartbeat")


def _end_too_early(story):
    story.add("end", events=story.trace.last, dropped=0)
    story.add("note", text="after it")


FAULTS = [
    (_vote_twice, "record 8: n1 has voted for n2 in term 1, and now for n3"),
    (_fall, "record 8: the term of n1 falls from 2 to 1"),
    (_arrive_twice, "record 9: message 1 has arrived or was lost before"),
    (_arrive_elsewhere, "record 8: message 1 goes from n1 to n2, not from n1 to n3"),
    (_become_another, "record 8: message 1 was sent with type heartbeat, and here has vote_req"),
    (_act_while("stopped"), 'record 9: "timer" of n1, which is stopped'),
    (_act_while("paused"), 'record 8: "timer" of n1, which is paused'),
    (_send_same, "record 8: message 1 was sent before, as record 7"),
    (_end_too_early, "record 8: it comes after the end, which is record 7"),
    (lambda story: story.add("end", events=9, dropped=0), "record 7: 9 records are said to come before the end"),
    (lambda story: story.receive(5, "n1", "n2", "x", "", ""), "record 7: message 5 arrives or is lost, but was never"),
    (lambda story: story.start("n1"), "record 7: n1 is started twice"),
    (
        lambda story: (story.stop("n1"), story.inc.update(n1=4), story.start("n1")),
        "record 9: start 5 of n1 follows start 1",
    ),
    (lambda story: story.add("stop", "n1", inc=2), "record 7: n1 stops as start 2, but was start 1"),
    (lambda story: story.add("timer", "n9", timer="election"), 'record 7: "timer" of n9, which is not started'),
    (lambda story: story.send("n1", "n1", "heartbeat"), "record 7: n1 sends to itself"),
    (lambda story: story.send("n1", "n2", "x", delay=-1e-3), "record 7: message 1 is to arrive before it is sent"),
    (lambda story: story.add("resume", "n1"), "record 7: n1 is not paused"),
    (lambda story: [story.add("pause", "n1") for _ in "12"], "record 8: n1 is paused already"),
    (lambda story: story.add("state", "n1", **STATE), "record 7: the state of n1 lacks lease, why"),
    (lambda story: story.add("state", "n1", role="king", term=1), 'record 7: "role" of the "state" record is'),
    (lambda story: story.trace.records[3].update(i=9), "record 9: the number should be 4"),
    (lambda story: (story.run(1), story.send("n1", "n2", "x"), story.trace.records[0].update(t=2)), "the time falls"),
    (
        lambda story: (story.add("start", "n9", inc=1), story.add("timer", "n9", timer="x")),
        'record 8: "timer" of n9 before its first state',
    ),
]


@pytest.mark.parametrize(("spoil", "sentence"), FAULTS)
def test_lint_finds_what_is_wrong_and_names_the_record(story, spoil, sentence):
    story.now = 1.0
    assert lint(story.trace) == []
    spoil(story)
    assert any(sentence in problem for problem in lint(story.trace)), lint(story.trace)


def test_a_trace_of_nothing_but_problems_is_not_listed_to_its_end():
    trace = Trace(traces.header())
    for _ in range(5_000):
        trace.append("timer", "n1", 0, timer="election")
    assert len(lint(trace)) == 1_001


@pytest.mark.slow
def test_thirty_thousand_records_are_no_burden(tmp_path):
    """Loaded, checked and folded; how long it takes is for a benchmark, that it ends is for this."""
    trace = traces.long(30_000)
    save(trace, tmp_path / "run.jsonl")
    again = load(tmp_path / "run.jsonl")
    assert again.records[:-1] == trace.records
    assert lint(again) == []
    assert fold(again).leader == "n1"
