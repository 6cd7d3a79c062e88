"""The exercise for students: what is right gets full marks, each way of being wrong is noticed."""

from __future__ import annotations

import gzip
import io
import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any, Callable, List

import lab_solution as solution
import pytest

from raftlite.cli import main
from raftlite.lab import Lab, exercise_marks, load, student_run
from raftlite.lab.act_out import turns, turns_as_json
from raftlite.lab.exercise import given_text, handout, write_handout
from raftlite.lab.exercise_given import key_of, make_given
from raftlite.lab.exercise_marks import Mark, mark_file, mark_folder
from raftlite.lab.exercise_n3 import act_out
from raftlite.lab.measure import Row, from_csv, medians, one_election, to_csv, to_svg, to_text
from raftlite.lab.scenes import SCENES, play
from raftlite.lab.trace import lint, loads, to_jsonl

FEW = 4  # elections for each spread: 200 take most of a minute


@pytest.fixture(autouse=True)
def few_elections(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exercise_marks, "ELECTIONS", FEW)
    monkeypatch.setattr(exercise_marks, "SAMPLE", 1)


@pytest.fixture(scope="module")
def rows() -> List[Row]:
    return solution.elections(FEW)


@pytest.fixture(scope="module")
def handed_in(tmp_path_factory: pytest.TempPathFactory, rows: List[Row]) -> Path:
    folder = tmp_path_factory.mktemp("exercise") / "ana"
    solution.write_solution(folder, rows)
    return folder


@pytest.fixture
def folder(handed_in: Path, tmp_path: Path) -> Path:
    """A copy of all that is right, to spoil."""
    return Path(shutil.copytree(handed_in, tmp_path / "ben"))


@pytest.fixture
def no_students(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave part E out, which takes a process."""
    monkeypatch.setattr(exercise_marks, "run_student", lambda path, keep: [])


def wrong(marks: List[Mark]) -> List[Mark]:
    return [mark for mark in marks if not mark.ok]


# --- The handout ------------------------------------------------------------------------------------------------------


def test_the_given_recording_can_be_made_again():
    """It is what raftlite does with that seed, not something that somebody has drawn."""
    shipped, made = loads(handout("given.jsonl")), loads(given_text())
    assert shipped.records == made.records
    assert {**shipped.header, "raftlite": ""} == {**made.header, "raftlite": ""}
    assert lint(shipped) == []


def test_the_given_recording_is_worth_reading():
    key = key_of(make_given())
    leaders = [leader for leader in key["leaders"].values() if leader != "nobody"]
    assert len(leaders) > len(set(leaders)) - 1 >= 2 and "nobody" in key["leaders"].values()
    assert len(set(key["votes"].values())) > 1
    assert sorted(key["lost"].values()) == ["cut", "down", "loss"]
    assert key["refused"] and len(turns(make_given(), "n3")) >= 15


def test_the_handout_names_the_messages_it_asks_about(tmp_path):
    write_handout(tmp_path / "new")
    text, key = (tmp_path / "new" / "EXERCISE.md").read_text(encoding="utf-8"), key_of(make_given())
    assert f"message {key['refused_message']} asked for a vote" in text
    assert all(message in text for message in key["lost"])
    assert "{" not in text.replace('{"', "")


def test_exercise_writes_a_new_folder_and_never_into_an_old_one(tmp_path, capsys):
    new = tmp_path / "new"
    assert main(["lab", "exercise", str(new)]) == 0
    (new / "answers.json").write_text("mine")
    assert main(["lab", "exercise", str(new)]) == 73
    assert (new / "answers.json").read_text() == "mine"
    assert "is there already" in capsys.readouterr().err


@pytest.mark.slow
def test_the_programs_of_the_handout_run(tmp_path, capsys):
    """As they are: measure.py with its one spread, student.py with an answer that is not written yet."""
    write_handout(tmp_path / "new")
    source = (tmp_path / "new" / "measure.py").read_text(encoding="utf-8").replace("elections=200", "elections=1")
    path = str(tmp_path / "new" / "measure.py")
    found: dict = {"__name__": "measure", "__file__": path}
    exec(compile(source, path, "exec"), found)
    found["main"](5)
    assert [row.seed for row in from_csv((tmp_path / "new" / "elections.csv").read_text())] == [5]
    assert "spread 0: half of" in capsys.readouterr().out
    outcomes = student_run.run_student(tmp_path / "new" / "student.py", tmp_path)
    assert [outcome.ok for outcome in outcomes if outcome.name.startswith("scene ")] == [False] * 8
    assert outcomes[-1].ok


# --- Marks ------------------------------------------------------------------------------------------------------------


def test_a_model_solution_gets_full_marks(handed_in, capsys):
    assert main(["lab", "check", str(handed_in)]) == 0
    printed = capsys.readouterr().out
    assert "✗" not in printed
    assert [part for part in "ABCDEF" if f"\n {part}  ✓" not in printed] == []


def test_an_empty_handout_gets_none_and_says_what_is_missing(tmp_path, capsys, no_students):
    write_handout(tmp_path / "new")
    assert main(["lab", "check", str(tmp_path / "new")]) == 1
    printed = capsys.readouterr().out
    assert "Look at A, B, C, D, F." in printed
    for missing in ("two-leaders.jsonl", "no-leader.jsonl", "elections.csv", "amnesia.jsonl", "n3.json"):
        assert f"{missing} is not there" in printed


def answer(*path: str, value: Any) -> Callable[[Path], None]:
    """Spoil one answer."""

    def spoil(folder: Path) -> None:
        answers = json.loads((folder / "answers.json").read_text())
        place = answers
        for name in path[:-1]:
            place = place[name]
        place[path[-1]] = value
        (folder / "answers.json").write_text(json.dumps(answers))

    return spoil


def file(name: str, content: Any) -> Callable[[Path], None]:
    """Hand in another file."""

    def spoil(folder: Path) -> None:
        found = content(folder) if callable(content) else content
        (folder / name).write_bytes(found if isinstance(found, bytes) else found.encode("utf-8"))

    return spoil


def recording(name: str, make: Callable[[], Any]) -> Callable[[Path], None]:
    return lambda folder: solution.save(folder / f"{name}.jsonl", make())


def acted(folder: Path) -> str:
    letters = solution.letters()
    last = list(letters)[-1]
    return json.dumps({"answers": {**letters, last: "b" if letters[last] == "a" else "a"}})


def invented(folder: Path) -> str:
    """Somebody has not measured one of the elections."""
    table = from_csv((folder / "elections.csv").read_text())
    return to_csv([table[0]._replace(seconds=1.234), *table[1:]])


def drawn(folder: Path) -> str:
    """A healthy recording, and at its end somebody leads who was put there by hand."""
    trace = solution.healthy()
    last = [record for record in trace.records if record["k"] == "state" and record["role"] == "follower"][-1]
    trace.append("state", last["n"], trace.t, role="leader", term=last["term"] + 1, vote=last["n"], votes=[last["n"]])
    return to_jsonl(trace)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("spoil", "part", "what"),
    [
        pytest.param(answer("A", "leaders", "1", value="n9"), "A", "leader of term 1", id="a leader"),
        pytest.param(answer("A", "leaders", "3", value=""), "A", "leader of term 3", id="no answer"),
        pytest.param(answer("A", "votes", "n3", value="n5"), "A", "vote in term 4 of n3", id="a vote"),
        pytest.param(answer("A", "votes", value=[1]), "A", "vote in term 4 of n1", id="no object"),
        pytest.param(answer("A", "refused", value="n2"), "A", "refused because", id="a refusal"),
        pytest.param(answer("A", "lost", value={"145": "loss"}), "A", "nobody got message 145", id="a loss"),
        pytest.param(recording("two-leaders", solution.healthy), "B", "two leaders", id="one leader"),
        pytest.param(recording("two-leaders", solution.no_leader), "B", "two leaders", id="one after the other"),
        pytest.param(recording("two-leaders", solution.amnesia), "B", "two leaders", id="a scene"),
        pytest.param(file("two-leaders.jsonl", drawn), "B", "two leaders", id="drawn by hand"),
        pytest.param(recording("no-leader", solution.healthy), "B", "no leader", id="a leader in each term"),
        pytest.param(recording("no-leader", make_given), "B", "no leader", id="the given one"),
        pytest.param(file("elections.csv", invented), "C", "made again", id="not measured"),
        pytest.param(answer("C", "medians", "1", value=9.9), "C", "median with spread 1", id="a median"),
        pytest.param(answer("C", "medians", value={}), "C", "median with spread 0", id="no median"),
        pytest.param(answer("C", "why", value="because"), "C", "explained", id="no words"),
        pytest.param(file("elections.svg", "a picture"), "C", "the plot", id="no plot"),
        pytest.param(recording("amnesia", solution.two_leaders), "D", "the recording", id="no disk was lost"),
        pytest.param(answer("D", "term", value=2), "D", "the term", id="another term"),
        pytest.param(answer("D", "leaders", value=["n1"]), "D", "its leaders", id="one of two"),
        pytest.param(answer("D", "voted_twice", value="n1"), "D", "voted twice", id="another voter"),
        pytest.param(answer("D", "why", value=""), "D", "explained", id="no reason"),
        pytest.param(file("n3.json", acted), "F", "record ", id="one wrong turn"),
    ],
)
def test_each_kind_of_wrong_answer_is_noticed(folder, no_students, spoil, part, what):
    spoil(folder)
    found = wrong(mark_folder(folder))
    assert {mark.part for mark in found} == {part}
    assert what in found[0].what and found[0].why


def test_too_few_elections_are_not_enough(folder, rows, no_students):
    (folder / "elections.csv").write_text(to_csv([row for row in rows if row.spread < 2 and row.seed != 0]))
    assert [mark.what for mark in wrong(mark_folder(folder)) if mark.part == "C"] == [
        "4 spreads, 0 among them",
        f"{FEW} elections each",
        *[mark.what for mark in wrong(mark_folder(folder)) if "median" in mark.what],
    ]


@pytest.mark.slow
def test_two_students_with_one_recording_are_named(handed_in, folder, capsys, no_students):
    assert main(["lab", "check", str(handed_in), str(folder)]) == 1
    assert "is the same recording as" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("answers.json", "A"),
        ("two-leaders.jsonl", "B"),
        ("elections.csv", "C"),
        ("amnesia.jsonl", "D"),
        ("n3.json", "F"),
    ],
)
def test_a_single_file_can_be_marked(handed_in, name, part):
    marks = mark_file(handed_in / name)
    assert {mark.part for mark in marks} == {part} and wrong(marks) == []


def test_a_packed_recording_counts(folder, no_students):
    content = (folder / "no-leader.jsonl").read_bytes()
    (folder / "no-leader.jsonl").unlink()
    (folder / "no-leader.jsonl.gz").write_bytes(gzip.compress(content))
    assert wrong(mark_folder(folder)) == []


# --- Hostile files ----------------------------------------------------------------------------------------------------

HOSTILE = {
    "nothing": b"",
    "binary": bytes(range(256)),
    "deep": b"[" * 100_000,
    "deep object": b'{"A":' * 100_000,
    "a list": b"[1, 2]",
    "no numbers": b'{"A": NaN, "C": Infinity, "D": {"term": 1e999, "leaders": {"a": []}}, "answers": [[]]}',
    "digits": b'{"A": {"refused": ' + b"9" * 100_000 + b'}, "C": {"medians": {"0": ' + b"9" * 100_000 + b"}}}",
    "surrogates": b'{"A": {"refused": "\\ud800", "leaders": {"1": "\\udfff\\u001b[2J"}}, "answers": {"24": "\\ud800"}}',
    "types": b'{"A": {"leaders": 5, "votes": null, "lost": "x"}, "C": {"medians": {"0": [], "1": {}}, "why": 7}, '
    b'"D": []}',
    "cells": b"spread,seed,seconds,terms\n1,2\nnan,1,inf,\n",
    "quotes": b'spread,seed,seconds,terms\n"' + b"x" * 200_000,
    "bomb": gzip.compress(b"0" * 3_000_000),
    "bare": b'{"k":"header","format":"raftlite-trace","v":1,"nodes":[]}\n'
    b'{"i":1,"t":0,"k":"start","n":"a","inc":1}\n{"i":2,"t":0,"k":"state","n":"a","role":"leader","term":1}\n'
    b'{"i":3,"t":0,"k":"fault","op":"wipe"}\n{"i":4,"t":0,"k":"start","n":"b","inc":1}\n'
    b'{"i":5,"t":0,"k":"state","n":"b","role":"leader","term":1}\n'
    b'{"i":6,"t":0,"k":"send","n":"a","m":1,"to":"b","type":"vote_resp","granted":true}\n',
}
FILES = ("answers.json", "two-leaders.jsonl", "elections.csv", "elections.svg", "amnesia.jsonl", "n3.json")


@pytest.mark.slow
@pytest.mark.parametrize("content", HOSTILE.values(), ids=HOSTILE)
def test_hostile_files_get_a_sentence(folder, no_students, capsys, content):
    for name in FILES:
        (folder / name).write_bytes(content)
    assert main(["lab", "check", str(folder)]) == 1
    printed = capsys.readouterr()
    assert "Traceback" not in printed.out + printed.err and "\x1b" not in printed.out


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs a pipe with a name")
def test_a_pipe_or_a_folder_in_the_place_of_a_file_is_not_waited_for(folder, no_students):
    for name in FILES[:3]:
        (folder / name).unlink()
        os.mkfifo(folder / name)
    for name in FILES[3:]:
        (folder / name).unlink()
        (folder / name).mkdir()
    assert {mark.part for mark in wrong(mark_folder(folder))} == set("ABCDF")


def test_whatever_is_not_there_gets_a_sentence(tmp_path, capsys):
    for name in ("nothing", "x.json", "x.jsonl", "student.py", "elections.csv", "n3.json", "amnesia.jsonl"):
        assert main(["lab", "check", str(tmp_path / name)]) == 1
    assert "Traceback" not in capsys.readouterr().out


# --- Part E: a student's program --------------------------------------------------------------------------------------


def voter(*changes: str) -> str:
    """The model solution, with each text replaced by the next."""
    source = solution.VOTER
    for old, new in zip(changes[::2], changes[1::2]):
        assert old in source
        source = source.replace(old, new)
    return source


ALONE = "alone: "
LOOKS = "why = self.leader_is_alive(request, now)\n        if why:\n            return self.answer(request, False, why)"
VOTES = "return (self.begin_term(request.term, now), self.vote_for(request.sender_id, now), self.answer(request, True))"
SPENT = "a request, but the vote of this term is given"
FIRST = "a first request in a newer term"
LAST = "        self.answer(request, True)\n"

# The program, situations in which it is wrong, and the beginning of the name of a scene that fails.
PROGRAMS = {
    "grants everything": (voter(LOOKS, VOTES), (SPENT, "a pre-vote while a leader is alive"), "scene "),
    "does not know of leaders": (
        voter("self.leader_is_alive(request, now)", '""'),
        ("a newer term, but a leader is alive",),
        "scene pre-vote",
    ),
    "does not look at its vote": (
        voter("self.voted_for not in (None, request.sender_id)", "False"),
        (SPENT, "a request, but the member stands itself"),
        "scene split-vote",
    ),
    "forgets the term": (voter("request.term < self.current_term", "False"), ("a request of a term that is over",), ""),
    "takes pre-votes for votes": (
        voter(" and not request.pre_vote", "", "if not request.pre_vote:", "if True:"),
        ("a pre-vote, which changes nothing",),
        "scene ",
    ),
    "refuses who asks twice": (
        voter("not in (None, request.sender_id)", "is not None"),
        ("the same candidate asks again",),
        "",
    ),
    "answers twice": (voter(LAST, 2 * LAST), (FIRST,), ""),
    "never answers": (voter(LAST, ""), ("the same candidate asks again",), "scene "),
    "raises": (voter("why = self.may", "1 / 0\n        why = self.may"), (FIRST,), "scene "),
}


@pytest.mark.slow
@pytest.mark.parametrize(("source", "alone", "scene"), PROGRAMS.values(), ids=PROGRAMS)
def test_each_kind_of_wrong_program_is_noticed(tmp_path, source, alone, scene):
    path = tmp_path / "student.py"
    path.write_text(source)
    marks = wrong(mark_file(path))
    names = [mark.what for mark in marks]
    assert {ALONE + name for name in alone} <= set(names)
    assert any(name.startswith(scene) for name in names)


@pytest.mark.slow
def test_a_scene_that_fails_leaves_its_recording_and_says_where_to_look(tmp_path):
    path = tmp_path / "student.py"
    path.write_text(PROGRAMS["does not look at its vote"][0])
    (mark,) = [mark for mark in wrong(mark_file(path)) if mark.what == "scene split-vote"]
    trace = load(tmp_path / "failed-split-vote.jsonl")
    number = int(mark.why.split("record ")[1].split(":")[0])
    assert trace.records[number - 1]["type"] == "vote_resp" and "votes for" in mark.why
    assert f"raftlite lab {tmp_path / 'failed-split-vote.jsonl'}" in mark.why


BROKEN = {
    "no Python": ("def (", "SyntaxError"),
    "no class": ("x = 1", "no class Voter"),
    "another class": ("class Voter: pass", "no class Voter"),
    "ends itself": ("import os\nos._exit(3)", "exit code 3"),
    "raises at once": ("raise SystemExit('bye')", "SystemExit"),
    "interrupts": ("raise KeyboardInterrupt", "KeyboardInterrupt"),
    "nested": ("x = " + "(" * 5_000, "Error"),
    "null": ("\0", "Error"),
}


@pytest.mark.slow
@pytest.mark.parametrize(("source", "reason"), BROKEN.values(), ids=BROKEN)
def test_a_program_that_does_not_even_start_gets_a_sentence(tmp_path, source, reason):
    path = tmp_path / "student.py"
    path.write_text(source)
    marks = mark_file(path)
    assert any(reason in mark.why for mark in wrong(marks)), marks


@pytest.mark.slow
def test_a_program_that_hangs_is_ended(tmp_path):
    """And with it whatever it has started."""
    path = tmp_path / "student.py"
    path.write_text("while True: pass")
    (mark,) = student_run.run_student(path, tmp_path, seconds=1.0)
    assert not mark.ok and "stopped after 1 s" in mark.why


def test_a_program_that_writes_results_of_its_own_breaks_nothing(tmp_path):
    path = tmp_path / "student.py"
    path.write_text(
        "import os, pathlib\n"
        'pathlib.Path(\'outcomes.jsonl\').write_bytes(b\'[[[\\n[1,2]\\n\\xff\\n["x",true,"","../../x"]\\n\')\n'
        "os._exit(0)\n"
    )
    outcomes = student_run.run_student(path, tmp_path / "nowhere")
    assert [outcome.name for outcome in outcomes] == ["x", "it comes to its end"]
    assert list(tmp_path.iterdir()) == [path]


# --- Part C: measuring ------------------------------------------------------------------------------------------------


def test_an_election_can_be_measured_again():
    assert one_election(0.5, 7) == one_election(0.5, 7) != one_election(0.5, 8)


def test_equal_timeouts_are_far_worse_than_spread_ones(rows):
    """The figure of the paper: some randomness is all it takes."""
    half = medians(rows)
    assert half[0.0] > 2 * half[0.2] and half[2.0] > half[0.2]


def test_tables_and_plots_show_every_spread(rows):
    assert from_csv(to_csv(rows)) == rows
    svg, text = to_svg(rows), to_text(rows)
    for spread in solution.SPREADS:
        assert f"spread {spread:g}<" in svg
        assert any(line.split()[0] == f"{spread:g}" for line in text.splitlines()[1:])
    assert svg.startswith("<svg ") and svg.rstrip().endswith("</svg>")


# --- Part F: you are n3 -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["cold-start", "split-vote", "minority-leader", "pre-vote", "amnesia", "resign"])
def test_what_n3_is_said_to_have_done_is_what_it_sent(name):
    """Told from the receiver's record; here looked up in what the member then sent."""
    scene = SCENES[name]
    with Lab(**scene.settings(), backend="virtual", seed=3) as lab:
        play(scene, lab)
        trace = lab.trace
    for turn in turns(trace, "n3", heartbeats=True):
        if turn.type in ("vote_req", "pre_vote_req"):
            kind = turn.type.replace("req", "resp")
            sent = next(record for record in trace.records[turn.i :] if record["k"] == "send" and record["n"] == "n3")
            while sent["type"] != kind:
                sent = next(r for r in trace.records[sent["i"] :] if r["k"] == "send" and r["n"] == "n3")
            assert sent["granted"] == (turn.answer == 0), turn
            assert sent["to"] == turn.sender
        assert 0 <= turn.answer < len(turn.choices) and turn.did and turn.i <= trace.last


def test_the_reason_fits_the_choice():
    """Each refusal of the scenes is put where its words belong."""
    said = {}
    for name in ("split-vote", "pre-vote", "minority-leader", "amnesia", "leader-dies"):
        scene = SCENES[name]
        with Lab(**scene.settings(), backend="virtual", seed=1) as lab:
            play(scene, lab)
            for n in lab.nodes:
                said.update({turn.why: turn.did for turn in turns(lab.trace, n) if turn.did.startswith("Refuse:")})
    for why, did in said.items():
        word = next(
            word for word in ("is over", "voted for", "heard", "leads", "abstains", "membership") if word in why
        )
        expected = {
            "is over": "that term is over",
            "voted for": "has voted for",
            "heard": "a leader",
            "leads": "a leader",
        }
        assert expected.get(word, "may have forgotten") in did, (why, did)
    assert len({*said.values()}) >= 3


def test_questions_do_not_give_their_answers_away():
    found = turns_as_json(make_given(), "n3")
    assert len(found["turns"]) == len(found["answers"]) > 0
    assert all(not {"answer", "why", "did"} & set(turn) for turn in found["turns"])
    json.dumps(found)


def test_n3_knows_only_what_it_knew_before():
    trace = make_given()
    for turn in turns(trace, "n3"):
        states = [r for r in trace.records[: turn.i - 1] if r["k"] == "state" and r["n"] == "n3"]
        assert (turn.before["role"], turn.before["term"]) == (states[-1]["role"], states[-1]["term"])


def test_what_was_wrong_is_asked_again_until_it_is_right(capsys):
    trace, right = make_given(), list(solution.letters().values())
    first_wrong = ["b" if right[0] == "a" else "a", *right[1:]]
    answers: dict = {}
    assert act_out(trace, "n3", answers, io.StringIO("\n".join([*first_wrong, "z", right[0]]) + "\n"))
    printed = capsys.readouterr().out
    assert answers == solution.letters()
    assert f"{len(right) - 1} of {len(right)} are right" in printed and "That is none of them." in printed


def test_n3_goes_on_where_it_was_left(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    right = list(solution.letters().values())
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"{right[0]}\nq\n"))
    assert main(["lab", "n3"]) == 1
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"{right[1]}\n"))
    assert main(["lab", "n3"]) == 1
    assert list(json.loads((tmp_path / "n3.json").read_text())["answers"].values()) == right[:2]


def test_n3_takes_a_recording_of_ones_own(handed_in, monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))
    assert main(["lab", "n3", str(handed_in / "two-leaders.jsonl")]) == 1
    assert main(["lab", "n3", str(handed_in / "answers.json")]) == 65
    assert main(["lab", "n3", str(tmp_path / "nothing")]) == 66
    assert list(tmp_path.iterdir()) == []
