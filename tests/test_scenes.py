"""Every scene keeps its contract: on the virtual clock for each seed, with real threads, with real processes.

That each check of each contract can fail is the business of test_scene_faults.py.
"""

from __future__ import annotations

import ast
import json
import os
import re
from pathlib import Path
from typing import Any, Dict, Iterator, List

import pytest

import raftlite.lab.scenes
from raftlite.election import Election
from raftlite.errors import ConfigError
from raftlite.lab import Lab
from raftlite.lab.scenes import SCENES, SHOW, languages, play, text, words
from raftlite.lab.scenes.evidence import Evidence
from raftlite.lab.scenes.scene import Scene
from raftlite.lab.trace import Trace, lint

FEW, MANY = range(3), range(100)  # seeds
FAST, SLOWER = 0.05, 0.2  # seconds of a second of the cluster
FOLDER = Path(raftlite.lab.scenes.__file__).parent
WORDS = text("en")
DOCUMENTED = (ast.Module, ast.FunctionDef, ast.ClassDef)


def perform(scene: Scene, seed: int, backend: str = "virtual", scale: float = 1.0, **settings: Any) -> List[str]:
    """What went wrong, in words, with the seed; nothing if all went as it should."""
    with Lab(**scene.settings(**settings), backend=backend, seed=seed, scale=scale) as lab:
        checks = play(scene, lab)
    wrong = [f"{check.name}: {check.why}" for check in checks if not check.ok] + lint(lab.trace)
    return [f"{scene.name}, seed {seed}, {backend}: {each}" for each in wrong]


def recording(name: str, seed: int = 0) -> Trace:
    with Lab(**SCENES[name].settings(), backend="virtual", seed=seed) as lab:
        play(SCENES[name], lab)
    return lab.trace


# --- Contracts --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SCENES)
def test_a_scene_keeps_its_contract(name):
    assert [perform(SCENES[name], seed) for seed in FEW] == [[] for _ in FEW]


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("name", SCENES)
def test_a_scene_keeps_its_contract_whatever_the_seed(name):
    """And each trace is sound. What a scene forces, a split vote or two leaders in one term, it forces always."""
    assert [wrong for seed in MANY for wrong in perform(SCENES[name], seed)] == []


@pytest.mark.parametrize("nodes", [2, 3, 5])
def test_even_or_odd_may_be_played_with_other_numbers_of_members(nodes):
    """Largest number of losses that is borne: none, one, two."""
    assert perform(SCENES["even-or-odd"], 1, nodes=nodes) == []


@pytest.mark.parametrize("name", ["cold-start", "paused-leader"])
def test_a_scene_keeps_its_contract_with_threads(name, patient):
    assert perform(SCENES[name], 1, "threads", FAST) == []


@pytest.mark.slow
@pytest.mark.parametrize("name", ["split-vote", "minority-leader", "amnesia", "chaos"])
def test_more_scenes_keep_their_contract_with_threads(name, patient):
    assert perform(SCENES[name], 2, "threads", FAST) == []


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.timeout(400)
@pytest.mark.skipif(os.name != "posix", reason="processes are stopped with SIGSTOP")
@pytest.mark.parametrize("name", SCENES)
def test_a_scene_keeps_its_contract_with_processes(name):
    """Real `kill -9`, real SIGSTOP; five times as fast as in the classroom, as a process takes a while to start."""
    assert [wrong for seed in FEW for wrong in perform(SCENES[name], seed, "processes", SLOWER)] == []


def test_the_split_vote_has_the_form_that_was_asked_for():
    """Two candidates in the same term, each with its own vote and that of one other, and all requests answered."""
    for seed in FEW:
        e = Evidence(recording("split-vote", seed))
        split = [votes for votes in e.candidacies(e.fault("kill")["i"]).values() if list(votes.values()) == [2, 2]]
        refusals = list(e.of_kind("recv", type="vote_req", result="refused"))
        assert len(split) == 1
        assert len(refusals) >= 4  # by the other candidate, and by the voter that was reached too late


def test_a_scene_that_is_played_twice_with_one_seed_gives_the_same_trace():
    assert recording("chaos", 5).records == recording("chaos", 5).records


def test_a_scene_goes_on_from_whatever_was_done_between_two_stops():
    """The leader was killed by hand while the lecturer spoke: the scene looks for the next one."""
    scene = SCENES["minority-leader"]
    with Lab(**scene.settings(), backend="virtual") as lab:
        performance = raftlite.lab.scenes.Play(scene, lab)
        performance.next()
        leader = lab.elected()
        lab.kill(leader, by="ui")
        lab.elected(term_above=lab.state(leader).term)
        lab.start(leader, by="ui")
        while not performance.is_over:
            performance.next()
    assert [check.name for check in performance.checks if not check.ok] == []


def test_a_stop_that_waits_in_vain_says_so():
    """Everybody was killed by hand: nobody can be elected, and the scene ends with a check that is red."""
    scene = SCENES["leader-dies"]
    with Lab(**scene.settings(), backend="virtual") as lab:
        performance = raftlite.lab.scenes.Play(scene, lab)
        performance.next()
        for n in lab.nodes:
            lab.kill(n, by="ui")
        performance.next()
        assert performance.is_over
        performance.next()  # there is nothing more to come
    assert performance.position == 2
    last = performance.checks[-1]
    assert (last.name, last.ok) == ("The scene went as planned", False)
    assert last.why.startswith("stop 2 waited for 120 s in vain")
    assert lab.trace.records[-1]["why"] == last.why


def test_a_stop_that_cannot_do_what_it_was_to_do_says_why(monkeypatch):
    scene = SCENES["split-vote"]
    with Lab(**scene.settings(), backend="virtual") as lab:
        monkeypatch.setattr(lab, "align", lambda *_, **__: lab.kill("n9"))
        checks = play(scene, lab)
    assert checks[-1].why.startswith("stop 3 failed: 'n9' is no member")


# --- What is asked, and when ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SCENES)
def test_notes_tell_the_scene_in_order(name):
    """Each stop begins with its narration; a question comes when its stop has acted, its answer after the next one."""
    scene, stops = SCENES[name], WORDS["scenes"][name]["stops"]
    expected: List[str] = []
    open_question = False
    for stop in scene.stops:
        expected += ["narration"] + (["answer"] if open_question else [])
        open_question = "question" in stops[stop.key]
        expected += ["question"] if open_question else []
    notes = [record for record in recording(name).records if record["k"] == "note"]
    assert [note["kind"] for note in notes] == expected
    assert {note["by"] for note in notes} == {"scene"}


def test_the_question_of_a_stop_lists_its_answers_and_the_answer_gives_the_reason():
    notes = [record["text"] for record in recording("heartbeats").records if record["k"] == "note"]
    question = next(note for note in notes if "?" in note and "\nA) " in note)
    assert question.splitlines() == [
        "Ten more heartbeats. What will have changed when they are over?",
        "A) The term: it counts the heartbeats",
        "B) The leader: each gets its turn",
        "C) Nothing but the arcs",
    ]
    assert any(note.startswith("C) Nothing but the arcs. Terms grow with elections") for note in notes)


# --- Words ------------------------------------------------------------------------------------------------------------


def test_english_is_there_and_a_language_that_is_not_is_refused():
    assert "en" in languages()
    with pytest.raises(ConfigError, match="language is 'xx', but must be one of "):
        text("xx")


def test_the_words_name_the_scenes_that_there_are_in_their_order():
    assert list(WORDS["scenes"]) == list(SCENES)


@pytest.mark.parametrize("name", SCENES)
def test_the_words_of_a_scene_are_complete(name):
    scene, said = SCENES[name], WORDS["scenes"][name]
    assert said["title"] and said["summary"]
    assert list(said["stops"]) == [stop.key for stop in scene.stops]
    assert 4 <= len(scene.stops) <= 6
    assert all(stop["text"] for stop in said["stops"].values())
    assert set(said["checks"]) | set(WORDS["checks"]) >= set(scene.contract.names)
    assert set(said["checks"]) <= set(scene.contract.names), "words of a check that there is not"


@pytest.mark.parametrize("name", SCENES)
def test_a_scene_asks_before_the_last_stop(name):
    """So that an answer follows, and what is asked can still be seen."""
    *before, last = WORDS["scenes"][name]["stops"].values()
    questions = [stop for stop in before if "question" in stop]
    assert questions and "question" not in last
    for stop in questions:
        assert len(stop["answers"]) == len(set(stop["answers"])) >= 2
        assert 0 <= stop["answer"] < len(stop["answers"])
        assert stop["because"]


def sentences_of_reasons() -> Iterator[str]:
    for path in FOLDER.glob("contracts*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                place = {"fails": 0, "judged": 1, "holds_if": 1, "leads": 1}.get(node.func.id)
                if place is not None and len(node.args) > place and isinstance(node.args[place], ast.Constant):
                    yield node.args[place].value


def test_every_reason_has_its_sentence():
    assert set(sentences_of_reasons()) <= set(WORDS["whys"])


def test_the_code_of_scenes_holds_no_words():
    """They could not be translated. Docstrings are for those who read the code."""
    for path in [*FOLDER.glob("contracts*.py"), *(FOLDER / f"{n}.py" for n in ("elections", "networks", "losses"))]:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        docs = {ast.get_docstring(node, clean=False) for node in ast.walk(tree) if isinstance(node, DOCUMENTED)}
        strings = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)} - docs
        said = [each for each in strings if isinstance(each, str) and " " in each.strip()]
        assert said == [], path.name


def test_a_translation_is_one_more_file(tmp_path, monkeypatch):
    """A scene is then told, asked and checked in that language."""
    foreign = shouted(WORDS)
    (tmp_path / "xx.json").write_text(json.dumps(foreign), encoding="utf-8")
    monkeypatch.setattr(words, "_folder", lambda: tmp_path)
    assert languages() == ["xx"]
    with Lab(**SCENES["heartbeats"].settings(), backend="virtual") as lab:
        checks = play(SCENES["heartbeats"], lab, "xx")
    said = [record["text"] for record in lab.trace.records if record["k"] == "note"]
    assert len(said) == 6
    assert said == [each.upper() for each in said]
    assert [check.name for check in checks] == [check.name.upper() for check in checks]


def shouted(value: Any) -> Any:
    """The words in another language; what is in braces stays."""
    if isinstance(value, dict):
        return {key: shouted(each) for key, each in value.items()}
    if isinstance(value, list):
        return [shouted(each) for each in value]
    return value.upper() if isinstance(value, str) and "{" not in value else value


# --- Settings ---------------------------------------------------------------------------------------------------------


def test_the_show_is_nine_scenes_of_the_list():
    assert len(SHOW) == 9
    assert [name for name in SCENES if name in SHOW] == list(SHOW)


def test_a_scene_says_what_its_lab_has_to_be():
    settings: Dict[str, Any] = SCENES["disruptive-follower"].settings()
    assert (settings["nodes"], settings["scene"], settings["rules"].pre_vote) == (5, "disruptive-follower", False)
    with pytest.raises(ConfigError, match="the scene even-or-odd has 2, 3, 4, 5 members, not 6"):
        SCENES["even-or-odd"].settings(nodes=6)


# --- The instructions -------------------------------------------------------------------------------------------------

INSTRUCTIONS = (FOLDER.parent / "LECTURER.md").read_text(encoding="utf-8")


def parts_of_the_show() -> Dict[str, str]:
    """Title of a scene -> what its part of the instructions says."""
    shown = INSTRUCTIONS[INSTRUCTIONS.index("## The show") : INSTRUCTIONS.index("## What can go wrong")]
    parts = re.split(r"^### \d+:\d\d  \d ", shown, flags=re.MULTILINE)[1:]
    return dict(part.split("\n", 1) for part in parts)


def test_the_instructions_go_through_the_scenes_of_the_show_stop_by_stop():
    """As many key presses as there are stops, and every question where it is asked."""
    titles = {WORDS["scenes"][name]["title"]: name for name in SHOW}
    assert list(parts_of_the_show()) == list(titles)
    for title, part in parts_of_the_show().items():
        stops = WORDS["scenes"][titles[title]]["stops"].values()
        rows = re.findall(r"^\| (\d)\w\w |^\| (\*ask\*) ", part, flags=re.MULTILINE)
        presses = [press for press, _ in rows if press]
        assert presses == [str(number) for number in range(1, len(stops) + 1)]
        asked = [len([press for press, _ in rows[:place] if press]) for place, row in enumerate(rows) if row[1]]
        questions = [number for number, stop in enumerate(stops, 1) if "question" in stop]
        assert set(asked) <= set(questions) and questions[0] in asked


def test_with_the_seed_of_the_instructions_no_first_election_is_a_long_one():
    seed = int(re.search(r"--seed (\d+)", INSTRUCTIONS).group(1))
    for name in SHOW:
        with Lab(**SCENES[name].settings(), backend="virtual", seed=seed) as lab:
            lab.elected()
            assert lab.now < 8.0, name
            stood = {record["n"] for record in lab.trace.records if str(record.get("role")).endswith("candidate")}
            assert len(stood) == 1, name  # two at once are the subject of the fourth scene


def test_whatever_scene_the_instructions_name_is_there():
    assert set(re.findall(r"--scene ([\w-]+)", INSTRUCTIONS)) <= set(SCENES)
    more = INSTRUCTIONS[INSTRUCTIONS.index("## More scenes") : INSTRUCTIONS.index("## The lab course")]
    titles = {WORDS["scenes"][name]["title"] for name in SCENES if name not in SHOW}
    assert set(re.findall(r"^\| ([A-Z][^|]*?) \|", more, flags=re.MULTILINE)) == titles


def test_the_model_solution_is_where_the_instructions_say():
    assert re.findall(r"`(Election\.\w+)`", INSTRUCTIONS) == [Election._receive_request_vote.__qualname__]
