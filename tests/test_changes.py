"""Asking any member to change the membership: the leader is asked, and each request is answered once."""

from __future__ import annotations

import pytest
from harness import (
    Cluster,
    answer,
    become_leader,
    events,
    heartbeat,
    lead,
    members,
    new_member,
    old_member,
    only,
    request_vote,
    sent,
)

from raftlite.election import Role
from raftlite.membership import NodeInfo
from raftlite.messages import (
    AddNode,
    ChangeRefused,
    ChangeRequest,
    ChangeResponse,
    Heartbeat,
    LeaderChanged,
    MembershipChanged,
    Removed,
    RemoveNode,
    Stop,
    TimeoutNow,
    TransferLeadership,
)


def follower(node_id="c", leader_id="a", **settings):
    """A member of an established cluster that has heard its leader in term 3."""
    election = old_member(node_id, **settings)
    election.receive(heartbeat(election, leader_id), 2.0)
    return election


def ask(election, request, now=2.0):
    """Let its program ask a follower, and return what it passes on to the leader."""
    return only(election.receive(request, now))


def answered(ready):
    """The answers to requests that a program hears: what it asked for, and whether it was done."""
    done = [(event.control_message, True) for event in events(ready, MembershipChanged) if event.control_message]
    return done + [(event.control_message, False) for event in events(ready, ChangeRefused)]


# --- The member that is asked ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("request_", "action", "node"),
    [
        (AddNode(NodeInfo("d", False, "host:4")), "add", NodeInfo("d", False, "host:4")),
        (AddNode("d"), "add", NodeInfo("d")),
        (RemoveNode("b"), "remove", NodeInfo("b")),
        (TransferLeadership("b"), "transfer", NodeInfo("b")),
        (TransferLeadership(), "transfer", None),
    ],
)
def test_a_follower_passes_a_request_on_to_its_leader(request_, action, node):
    """It changes nothing itself, and its program need not know who leads."""
    election = follower("c")
    ready = election.receive(request_, 2.0)
    ((receiver, message),) = ready.outbox
    assert receiver == "a"
    assert message == ChangeRequest(3, "c", message.number, action, node)
    assert (ready.saved, ready.events) == (None, ())


def test_a_request_is_passed_on_again_until_it_is_answered():
    """With every heartbeat, under the same number: a message may be lost."""
    election = follower("c")
    first = ask(election, AddNode("d"))
    for _ in range(2):
        again = sent(election.receive(heartbeat(election, "a"), 2.125), ChangeRequest)
        assert again == {"a": first}
    election.receive(ChangeResponse(3, "a", first.number, "refused", "no"), 2.25)
    assert sent(election.receive(heartbeat(election, "a"), 2.25), ChangeRequest) == {}


def test_every_request_has_a_number_of_its_own():
    """Also after a restart, so that no answer is taken for that to another request."""
    election = follower("c")
    numbers = [message.number for _, message in election.receive(AddNode("d"), 2.0).outbox]
    numbers += [message.number for _, message in election.receive(AddNode("e"), 2.0).outbox[1:]]
    again = follower("c")
    numbers += [ask(again, AddNode("f"), now=2.5).number]
    assert len(set(numbers)) == 3


def test_a_request_without_a_leader_waits_until_there_is_one():
    """Nobody is told that it failed: it has not been tried."""
    election = old_member("c")
    ready = election.receive(RemoveNode("b"), 2.0)
    assert (ready.outbox, ready.events) == ((), ())
    passed_on = sent(election.receive(heartbeat(election, "a"), 2.125), ChangeRequest)
    assert passed_on["a"].action == "remove"


def test_a_request_without_a_leader_is_the_members_own_when_it_wins():
    """Whoever leads then takes it up."""
    election = old_member("a")
    election.receive(AddNode("d"), 2.0)
    ready = become_leader(election, 2.0)
    election.receive(answer(sent(ready, Heartbeat)["b"], "b"), 2.0)
    assert election.membership == members(4, 2, "abcd")


def test_a_request_that_is_done_is_answered_with_the_membership():
    """The answer brings the new membership, and says to which request it belongs."""
    election = follower("c")
    number = ask(election, AddNode("d")).number
    newest = members(3, 2, "abcd")
    ready = election.receive(ChangeResponse(3, "a", number, "done", membership=newest), 2.125)
    assert answered(ready) == [(AddNode("d"), True)]
    assert ready.saved is not None and ready.saved.membership == newest


def test_a_request_that_is_refused_is_answered_with_the_leaders_reason():
    """A sentence, as if its program had asked the leader itself."""
    election = follower("c")
    number = ask(election, AddNode("d")).number
    ready = election.receive(ChangeResponse(3, "a", number, "refused", "max_nodes is 3"), 2.125)
    assert ready.events == (ChangeRefused(AddNode("d"), "max_nodes is 3"),)


def test_a_request_is_answered_once():
    """However often the answer arrives."""
    election = follower("c")
    number = ask(election, AddNode("d")).number
    response = ChangeResponse(3, "a", number, "refused", "no")
    assert len(answered(election.receive(response, 2.125))) == 1
    assert answered(election.receive(response, 2.125)) == []
    assert answered(election.receive(ChangeResponse(3, "a", 99, "refused", "no"), 2.125)) == []


@pytest.mark.parametrize(("term", "sender"), [(3, "x"), (2, "a")])
def test_a_strangers_or_a_stale_answer_is_ignored(term, sender):
    """Only a member of this term can have been asked."""
    election = follower("c")
    number = ask(election, AddNode("d")).number
    assert election.receive(ChangeResponse(term, sender, number, "refused", "no"), 2.125).events == ()


def test_what_the_leader_did_not_begin_is_asked_of_the_next():
    """It says so when it goes."""
    election = follower("c")
    number = ask(election, AddNode("d")).number
    election.receive(ChangeResponse(3, "a", number, "again"), 2.125)
    assert sent(election.receive(heartbeat(election, "a"), 2.125), ChangeRequest)["a"].term == 3
    election = follower("c")
    number = ask(election, AddNode("d")).number
    election.receive(ChangeResponse(3, "a", number, "again"), 2.125)
    ready = election.receive(heartbeat(election, "b", term=4), 2.25)
    assert sent(ready, ChangeRequest) == {"b": ChangeRequest(4, "c", number, "add", NodeInfo("d"))}
    assert answered(ready) == []


def test_what_another_leader_was_asked_and_did_not_answer_has_an_unknown_outcome():
    """It may have begun: asking the next one could do it twice."""
    election = follower("c")
    ask(election, AddNode("d"))
    ready = election.receive(heartbeat(election, "b", term=4), 2.25)
    assert answered(ready) == [(AddNode("d"), False)]
    assert "unknown" in events(ready, ChangeRefused)[0].reason
    assert sent(ready, ChangeRequest) == {}


@pytest.mark.parametrize("end", [lambda e: Stop(), lambda e: heartbeat(e, "a", membership=members(3, 2, "abd"))])
def test_whoever_stops_answers_what_is_left(end):
    """No program waits for ever."""
    election = follower("c")
    ask(election, AddNode("d"))
    ready = election.receive(end(election), 2.125)
    assert answered(ready) == [(AddNode("d"), False)]
    assert election.role is Role.STOPPED


def test_a_transfer_is_refused_where_nobody_leads():
    """There is nothing to hand over."""
    election = old_member("c")
    assert answered(election.receive(TransferLeadership("b"), 2.0)) == [(TransferLeadership("b"), False)]


# --- The leader ------------------------------------------------------------------------------------------------------


def leader(**settings):
    """One that leads in term 4, with a lease and with its membership (4, 1) committed."""
    election = old_member("a", **settings)
    lead(election)
    return election


def test_a_leader_carries_out_what_a_member_passes_on():
    """And answers when a quorum of the new membership has it, not before."""
    election = leader()
    ready = election.receive(ChangeRequest(4, "c", 17, "add", NodeInfo("d")), 2.0)
    assert election.membership == members(4, 2, "abcd")
    assert sent(ready, ChangeResponse) == {}
    heartbeats = sent(ready, Heartbeat)
    election.receive(answer(heartbeats["b"], "b"), 2.0)
    ready = election.receive(answer(heartbeats["d"], "d"), 2.0)
    newest = members(4, 2, "abcd")
    assert ready.outbox == (("c", ChangeResponse(4, "a", 17, "done", "", newest)),)
    assert ready.events == (MembershipChanged(newest),)
    assert answered(ready) == []


def test_a_leader_takes_each_number_up_once():
    """Requests arrive again and again until the answer does; the answer may be lost as well."""
    election = leader()
    request = ChangeRequest(4, "c", 17, "add", NodeInfo("d"))
    heartbeats = sent(election.receive(request, 2.0), Heartbeat)
    assert election.receive(request, 2.0).outbox == ()
    election.receive(answer(heartbeats["b"], "b"), 2.0)
    done = ("c", ChangeResponse(4, "a", 17, "done", "", members(4, 2, "abcd")))
    assert election.receive(answer(heartbeats["d"], "d"), 2.0).outbox == (done,)
    election.receive(RemoveNode("d"), 2.0)
    assert election.receive(request, 2.0).outbox == (done,)
    assert election.membership == members(4, 3, "abc")


def test_a_leader_answers_a_request_that_it_may_not_carry_out():
    """With the sentence that its own program would hear; its own program has asked for nothing."""
    election = leader(max_nodes=3)
    ready = election.receive(ChangeRequest(4, "c", 17, "add", NodeInfo("d")), 2.0)
    refusal = "the cluster has 3 voters already, and max_nodes is 3"
    assert ready.outbox == (("c", ChangeResponse(4, "a", 17, "refused", refusal)),)
    assert ready.events == ()


def test_a_leaders_own_program_hears_which_request_is_done():
    """An event for each request, in order."""
    election = leader()
    heartbeats = sent(election.receive(AddNode("d"), 2.0), Heartbeat)
    election.receive(answer(heartbeats["b"], "b"), 2.0)
    assert answered(election.receive(answer(heartbeats["c"], "c"), 2.0)) == [(AddNode("d"), True)]


def test_a_leader_that_goes_says_what_it_had_begun():
    """The first has an unknown outcome; the second is for the next leader."""
    election = leader()
    for number in (17, 18):
        election.receive(ChangeRequest(4, "c", number, "add", NodeInfo(f"n{number}")), 2.0)
    ready = election.receive(TransferLeadership("b"), 2.0)
    responses = [message for _, message in ready.outbox if isinstance(message, ChangeResponse)]
    assert [(response.number, response.outcome) for response in responses] == [(17, "refused"), (18, "again")]
    assert "unknown" in responses[0].reason


def test_a_leaders_own_request_that_it_had_not_begun_goes_to_the_next():
    """As any other member's."""
    election = leader()
    for change in (AddNode("d"), AddNode("e")):
        election.receive(change, 2.0)
    election.receive(TransferLeadership("b"), 2.0)
    ready = election.receive(heartbeat(election, "b", term=5), 2.0)
    assert [message.node for message in sent(ready, ChangeRequest).values()] == [NodeInfo("e")]


@pytest.mark.parametrize(("term", "sender"), [(3, "c"), (5, "c"), (4, "x")])
def test_a_leader_ignores_requests_of_another_term_and_of_strangers(term, sender):
    """The first will be asked again; the others have nothing to ask."""
    election = leader()
    ready = election.receive(ChangeRequest(term, sender, 17, "add", NodeInfo("d")), 2.0)
    assert (ready.outbox, ready.events) == ((), ())
    assert election.membership == members(4, 1, "abc")


def test_a_follower_ignores_requests_of_others():
    """Whoever asks will find the leader by its heartbeats."""
    election = follower("b")
    assert election.receive(ChangeRequest(3, "c", 17, "add", NodeInfo("d")), 2.0).outbox == ()
    assert election.receive(ChangeRequest(3, "c", 0, "transfer"), 2.0).outbox == ()


@pytest.mark.parametrize(("node", "successor"), [(NodeInfo("c"), "c"), (None, "b")])
def test_a_leader_hands_over_when_a_member_passes_that_on(node, successor):
    """To the one named, or to the one heard from last."""
    election = leader()
    heartbeats = sent(election.timeout(2.125), Heartbeat)
    election.receive(answer(heartbeats["b"], "b"), 2.125)
    ready = election.receive(ChangeRequest(4, "c", 0, "transfer", node), 2.125)
    assert ready.outbox == ((successor, TimeoutNow(4, "a")),)


# --- A leader that is asked to remove itself -------------------------------------------------------------------------


def test_a_leader_that_is_asked_to_remove_itself_hands_over_and_is_removed_by_the_next():
    """Whoever leads belongs to what it leads, so another has to do it."""
    cluster = Cluster("abc")
    cluster.run_until(5.0625)
    cluster.tell("b", RemoveNode("a"))
    cluster.run_until(6.0)
    assert Removed() in cluster.events["a"]
    assert cluster.elections["a"].role is Role.STOPPED
    assert cluster.elections["b"].membership.ids == {"b", "c"}
    assert set(cluster.winners) == {1, 2}
    assert len(cluster.leases) == 1


def test_a_leader_that_is_alone_cannot_be_removed():
    """There is nobody to hand over to."""
    cluster = Cluster("a", min_nodes=1)
    cluster.tell("a", RemoveNode("a"))
    assert [event.control_message for event in cluster.events["a"][1:]] == [RemoveNode("a")]
    assert cluster.leases == ["a"]


# --- A cluster -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("asked", ["a", "c"])
def test_it_does_not_matter_which_member_is_asked(asked):
    """Leader or not: done, and answered once."""
    cluster = Cluster("abc")
    cluster.run_until(5.0625)
    cluster.start("d")
    cluster.tell(asked, AddNode("d"))
    cluster.tell(asked, RemoveNode("b"))
    cluster.run_until(8.0)
    answers = [event.control_message for event in cluster.events[asked] if getattr(event, "control_message", None)]
    assert answers == [AddNode("d"), RemoveNode("b")]
    assert cluster.elections["a"].membership.ids == {"a", "c", "d"}
    assert cluster.winners == {1: {"a"}}


def test_a_request_survives_the_leader_that_never_heard_of_it():
    """It was asked while nobody led; the next leader carries it out."""
    cluster = Cluster("abc")
    cluster.run_until(5.0625)
    del cluster.elections["a"]
    cluster.start("c", "abc")
    cluster.tell("c", RemoveNode("a"))
    cluster.run_until(10.0)
    assert cluster.leases == ["b"]
    assert cluster.elections["c"].membership.ids == {"b", "c"}
    assert cluster.events["c"][-1].control_message == RemoveNode("a")


def test_a_handover_may_be_asked_of_any_member():
    """It goes to the leader, and takes no longer than there."""
    cluster = Cluster("abc")
    cluster.run_until(5.0625)
    cluster.tell("b", TransferLeadership("c"))
    assert cluster.leases == ["c"]
    assert cluster.events["b"][-1] == LeaderChanged("c", 2)


def test_a_request_gives_nobody_a_vote():
    """Asking is no sign of life of a leader, and changes nothing at the one that is asked."""
    election = new_member("c")
    election.receive(request_vote(election, "a"), 0.5)
    deadline = election.deadline
    election.receive(AddNode("d"), 0.75)
    assert (election.deadline, election.voted_for, election.membership) == (deadline, "a", members(0, 1, "abc"))
