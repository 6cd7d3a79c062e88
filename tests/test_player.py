"""A player goes from stop to stop when it is told to, or by itself, and can be left at any time."""

from __future__ import annotations

import queue
import threading
from dataclasses import replace
from typing import Any, Iterator, List

import pytest
from threads import PATIENCE, eventually

from raftlite.lab import Lab
from raftlite.lab.player import Player
from raftlite.lab.scenes import SCENES, Stop

SCENE = SCENES["heartbeats"]


@pytest.fixture
def lab() -> Iterator[Lab]:
    with Lab(**SCENE.settings(), backend="threads", scale=0.02) as lab:
        yield lab


@pytest.fixture
def player(lab: Lab) -> Iterator[Player]:
    player = Player(lab, SCENE)
    yield player
    lab.close()
    player.close()


def go(player: Player) -> None:
    """The next stop, from its beginning to its end."""
    assert player.next()
    assert player.wait(PATIENCE)


def is_at(player: Player, position: int) -> bool:
    """Whether that stop is over, and `next` would begin another."""
    state = player.state()
    return bool(state["waiting"]) and state["position"] == position


def notes(player: Player, *kinds: str) -> List[str]:
    records = player.lab.trace.records
    return [record["text"] for record in records if record["k"] == "note" and record["kind"] in kinds]


def waiting_forever(begun: threading.Event) -> Any:
    """A scene whose first stop waits for what never comes."""

    def act(play: Any) -> None:
        begun.set()
        play.until(lambda: False, 80_000)

    return replace(SCENE, stops=(Stop("elected", act), *SCENE.stops[1:]))


# --- From stop to stop ------------------------------------------------------------------------------------------------


def test_nothing_happens_before_the_first_stop(player):
    """The lecturer introduces the cluster; nobody's timer runs out meanwhile."""
    assert player.lab.is_clock_paused
    assert (player.position, player.waiting, player.done) == (0, True, False)
    said = player.text()
    assert (said["title"], said["text"], said["stop"], said["of"]) == ("Heartbeats keep the peace", "", 0, 4)


def test_a_stop_is_told_acts_and_then_the_next_is_waited_for(player):
    go(player)
    assert not player.lab.is_clock_paused
    assert player.lab.leader() is not None
    assert (player.position, player.waiting, player.done) == (1, True, False)
    assert notes(player, "narration") == [player.text()["text"]]


def test_the_clock_stands_while_a_question_is_open(player):
    """The room thinks, and the cluster does not give the answer meanwhile."""
    go(player)
    go(player)
    assert player.text()["asked"]
    assert player.lab.is_clock_paused
    stopped, asked = player.lab.trace.records[-2:]
    assert (stopped["k"], stopped["op"], asked["k"], asked["kind"]) == ("clock", "pause", "note", "question")
    go(player)
    assert not player.text()["asked"]
    assert not player.lab.is_clock_paused


def test_the_next_stop_is_not_begun_while_one_acts(lab):
    begun = threading.Event()
    player = Player(lab, waiting_forever(begun))
    assert player.next()
    assert begun.wait(PATIENCE)
    assert not player.waiting and not player.done
    assert not player.next()
    assert player.position == 1
    assert not player.wait(0.0)
    lab.close()
    player.close()


@pytest.mark.slow
def test_a_stop_that_begins_is_never_said_to_wait_for_the_next(lab, monkeypatch):
    """A page that believed so would send Page Down again, and be refused."""
    player = Player(lab, waiting_forever(threading.Event()))
    seen = queue.Queue()

    def begin():
        begin_stop()
        asking = threading.Thread(target=lambda: seen.put(player.state()))
        asking.start()
        asking.join(0.1)  # long enough for an answer that waits for nobody

    begin_stop = player._play.begin
    monkeypatch.setattr(player._play, "begin", begin)
    assert player.next()
    state = seen.get(timeout=PATIENCE)
    assert (state["position"], state["waiting"]) == (1, False)
    player.close()


def test_a_question_is_asked_after_its_stop_and_answered_after_the_next(player):
    go(player)
    assert not player.text()["asked"]
    go(player)
    said = player.text()
    assert said["asked"] and said["answered"] is None
    assert said["question"].startswith("Ten more heartbeats.")
    assert said["answers"][said["answer"]] == "Nothing but the arcs"
    go(player)
    said = player.text()
    assert not said["asked"] and said["question"] is None
    assert said["answered"]["because"].startswith("Terms grow with elections")
    player.next()
    assert player.text()["answered"] is None  # the next stop has begun
    assert player.wait(PATIENCE)


def test_the_last_stop_brings_the_checks(player):
    for _ in player.stops:
        assert player.checks == []
        go(player)
    assert player.done and not player.waiting
    assert not player.next()
    assert [check.ok for check in player.checks] == [True] * 4
    recorded = [(each["name"], each["ok"]) for each in player.lab.trace.records if each["k"] == "check"]
    assert recorded == [(check.name, True) for check in player.checks]


def test_the_beginning_of_each_stop_can_be_found_in_the_recording(player):
    assert player.previous() == 0
    go(player)
    assert player.previous() == 0
    go(player)
    assert player.previous() == player.begun[0]
    assert [player.lab.trace.records[i - 1]["text"] for i in player.begun] == notes(player, "narration")


def test_a_clock_that_was_stopped_by_hand_goes_on_with_the_next_stop(player):
    for _ in range(3):
        go(player)
    player.lab.pause()
    go(player)
    assert not player.lab.is_clock_paused


@pytest.mark.slow
def test_a_cluster_of_processes_has_no_clock_to_stop(monkeypatch):
    """Its lab says so, and the player does without."""
    with Lab(**SCENE.settings(), backend="processes", scale=0.05) as lab:
        player = Player(lab, SCENE)
        assert not lab.is_clock_paused
        go(player)
        assert lab.elected()  # again, where the machine has stood still for a lease
        player.close()


# --- By itself --------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_it_plays_by_itself_to_the_end(lab):
    player = Player(lab, SCENE, pace=0.0)
    player.autoplay()
    assert player.is_autoplaying
    eventually(lambda: player.done and not player.is_autoplaying, "played to the end")
    assert [check.ok for check in player.checks] == [True] * 4
    player.autoplay()  # there is nothing left
    assert not player.is_autoplaying
    player.close()


def test_it_leaves_time_to_read_and_to_think(lab):
    """Half a second or so for each word, and longer after a question; measured by what it has planned."""
    player = Player(lab, SCENE)
    go(player)
    words = len(player.text()["text"].split())
    assert player._reading_time(player.text()["text"]) == pytest.approx(0.4 * words)
    go(player)
    assert player._thinking_time() > 8.0
    player.autoplay()
    assert player.is_autoplaying
    assert player.position == 2
    player.autoplay(False)
    assert not player.is_autoplaying
    player.close()


def test_whoever_plays_by_hand_may_be_faster_than_it_would_be_by_itself(lab):
    player = Player(lab, SCENE, pace=1e6)
    player.autoplay()
    eventually(lambda: is_at(player, 1), "at the first stop")
    go(player)
    assert player.is_autoplaying
    player.close()


# --- The end ----------------------------------------------------------------------------------------------------------


def test_a_stop_that_waits_ends_with_its_lab(lab):
    begun = threading.Event()
    player = Player(lab, waiting_forever(begun))
    player.next()
    assert begun.wait(PATIENCE)
    lab.close()
    assert player.wait(PATIENCE)
    assert not player.next()
    player.close()
    player.close()


def test_a_stop_that_waits_ends_with_its_player(lab):
    """The cluster lives on, without a scene."""
    begun = threading.Event()
    player = Player(lab, waiting_forever(begun))
    player.next()
    assert begun.wait(PATIENCE)
    player.close()
    assert not player.waiting
    assert player.wait(PATIENCE)
    lab.note("still here")


def test_next_after_the_end_of_the_lab_is_no_error(lab):
    player = Player(lab, SCENE)
    lab.close()
    assert not player.next()
    player.close()


def test_a_stop_that_fails_is_logged_and_said(lab, caplog):
    def act(play: Any) -> None:
        raise ZeroDivisionError("planted")

    player = Player(lab, replace(SCENE, stops=(Stop("elected", act), *SCENE.stops[1:])))
    go(player)
    assert player.done
    assert player.text()["stuck"] == "ZeroDivisionError: planted"
    assert "a stop of the scene heartbeats has failed" in caplog.text
    player.close()
