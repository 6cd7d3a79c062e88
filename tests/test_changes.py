"""Asking any member to change the membership: the leader is asked, and each request is answered once."""

from __future__ import annotations

import pytest
from harness import (
    Cluster,
    answer,
    answer_all,
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
from raftlite.errors import ConfigError
from raftlite.leader import MOST_CONCLUDED
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
    numbers = [ask(election, request).number for request in (TransferLeadership(), TransferLeadership(), AddNode("d"))]
    again = follower("c")
    numbers += [ask(again, AddNode("f"), now=2.5).number]
    assert len(set(numbers)) == 4


def test_a_members_requests_are_asked_one_after_the_other():
    """So that they are carried out in order, though a message may be lost."""
    election = follower("c")
    first = ask(election, AddNode("d"))
    assert only(election.receive(RemoveNode("b"), 2.0)) == first
    assert sent(election.receive(heartbeat(election, "a"), 2.125), ChangeRequest) == {"a": first}
    second = only(election.receive(ChangeResponse(3, "a", first.number, "refused", "no"), 2.25))
    assert (second.action, second.node) == ("remove", NodeInfo("b"))


@pytest.mark.parametrize("asked", [True, False])
def test_what_is_no_node_changes_nothing(asked):
    """The caller hears it, and the election goes on as if it had not been asked."""
    election = follower("c") if asked else new_member("c")
    with pytest.raises(ConfigError, match="12"):
        election.receive(AddNode(12), 2.0)
    assert not sent(election.receive(heartbeat(election, "a"), 2.125), ChangeRequest)


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
    lead(election)
    assert "d" in election.membership.ids


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


def test_a_strangers_answer_is_ignored():
    """Only a member can have been asked."""
    election = follower("c")
    number = ask(election, AddNode("d")).number
    assert election.receive(ChangeResponse(3, "x", number, "refused", "no"), 2.125).events == ()


@pytest.mark.parametrize(("outcome", "reason", "was_done"), [("done", "", True), ("refused", "max_nodes is 3", False)])
def test_an_answer_may_arrive_after_the_heartbeat_of_the_next_leader(outcome, reason, was_done):
    """It is as true as before: what was done is committed, and no later leader is asked as long as it may come."""
    election = follower("c")
    number = ask(election, AddNode("d")).number
    ready = election.receive(heartbeat(election, "b", term=4), 2.25)
    assert (answered(ready), sent(ready, ChangeRequest)) == ([], {})
    membership = members(3, 2, "abcd") if was_done else None
    ready = election.receive(ChangeResponse(3, "a", number, outcome, reason, membership), 2.25)
    assert answered(ready) == [(AddNode("d"), was_done)]


def test_what_the_leader_did_not_begin_is_asked_of_the_next():
    """It says so when it goes."""
    election = follower("c")
    number = ask(election, AddNode("d")).number
    election.receive(ChangeResponse(3, "a", number, "again"), 2.125)
    assert sent(election.receive(heartbeat(election, "a"), 2.125), ChangeRequest) == {}  # it leads in term 3 no more
    ready = election.receive(heartbeat(election, "b", term=4), 2.25)
    assert sent(ready, ChangeRequest) == {"b": ChangeRequest(4, "c", number, "add", NodeInfo("d"))}
    assert answered(ready) == []


def test_what_another_leader_was_asked_and_did_not_answer_has_an_unknown_outcome():
    """It may have begun: asking the next one could do it twice. Its answer is waited for during an election timeout."""
    election = follower("c")
    ask(election, AddNode("d"))
    for now in (2.25, 3.125):
        assert answered(election.receive(heartbeat(election, "b", term=4), now)) == []
    ready = election.receive(heartbeat(election, "b", term=4), 3.25)
    assert answered(ready) == [(AddNode("d"), False)]
    assert "unknown" in events(ready, ChangeRefused)[0].reason
    assert sent(ready, ChangeRequest) == {}


def test_what_an_earlier_leader_was_asked_has_an_unknown_outcome_for_the_next_leader_too():
    """Here the member that asked leads itself."""
    election = follower("c")
    ask(election, AddNode("d"))
    become_leader(election, 4.0)
    heard = []
    while not heard and election.role is Role.LEADER:
        ready = election.timeout(election.deadline)
        answer_all(election, ready, election.deadline)
        heard = answered(ready)
    assert heard == [(AddNode("d"), False)]
    assert election.membership == members(4, 1, "abc")


def test_again_may_arrive_after_the_heartbeat_of_the_next_leader():
    """Which is asked then, at once."""
    election = follower("c")
    number = ask(election, AddNode("d")).number
    election.receive(heartbeat(election, "b", term=4), 2.25)
    ready = election.receive(ChangeResponse(3, "a", number, "again"), 2.25)
    assert sent(ready, ChangeRequest) == {"b": ChangeRequest(4, "c", number, "add", NodeInfo("d"))}


@pytest.mark.parametrize("brought_by", ["answer", "heartbeat"])
def test_a_member_that_asks_for_its_own_removal_hears_that_it_is_done(brought_by):
    """Before it stops. A removed member is told once that is committed."""
    election = follower("c")
    number = ask(election, RemoveNode("c")).number
    newest = members(3, 2, "ab")
    if brought_by == "answer":
        ready = election.receive(ChangeResponse(3, "a", number, "done", membership=newest), 2.125)
    else:
        ready = election.receive(heartbeat(election, "a", membership=newest), 2.125)
    assert answered(ready) == [(RemoveNode("c"), True)]
    assert Removed() in ready.events


@pytest.mark.parametrize("end", [lambda e: Stop(), lambda e: heartbeat(e, "a", membership=members(3, 2, "abd"))])
def test_whoever_stops_answers_what_is_left(end):
    """No program waits for ever."""
    election = follower("c")
    ask(election, AddNode("d"))
    ready = election.receive(end(election), 2.125)
    assert answered(ready) == [(AddNode("d"), False)]
    assert election.role is Role.STOPPED


def test_whoever_asked_for_a_transfer_hears_that_it_is_refused():
    """With the leader's reason; a transfer that succeeds is heard of as a change of the leader."""
    election = follower("c")
    number = ask(election, TransferLeadership("x")).number
    response = ChangeResponse(3, "a", number, "refused", "x is no other voter")
    ready = election.receive(response, 2.125)
    assert ready.events == (ChangeRefused(TransferLeadership("x"), "x is no other voter"),)
    assert election.receive(response, 2.125).events == ()


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


def test_a_leader_answers_a_transfer_that_it_may_not_carry_out():
    """Its own program has asked for nothing."""
    election = leader()
    ready = election.receive(ChangeRequest(4, "c", 7, "transfer", NodeInfo("x")), 2.125)
    refusal = "x is no other voter of a, b, c [4.1]"
    assert ready.outbox == (("c", ChangeResponse(4, "a", 7, "refused", refusal)),)
    assert ready.events == ()


def test_whoever_asked_for_a_transfer_hears_that_the_successor_declines():
    """It is told by the leader that tried."""
    election = leader()
    election.receive(ChangeRequest(4, "c", 7, "transfer", NodeInfo("b")), 2.125)
    ready = election.receive(TimeoutNow(4, "b"), 2.25)
    refusal = "b may not campaign: it has no vote, never leads, abstains or has resigned"
    assert sent(ready, ChangeResponse) == {"c": ChangeResponse(4, "a", 7, "refused", refusal)}


def test_a_request_to_change_nothing_is_ignored():
    """Only another version of raftlite could send it."""
    election = leader()
    assert election.receive(ChangeRequest(4, "c", 7, "add", None), 2.125).outbox == ()


def test_a_leader_forgets_its_oldest_answers():
    """A reign may last for years."""
    election = leader()
    for number in range(MOST_CONCLUDED + 5):
        election.receive(ChangeRequest(4, "c", number, "add", NodeInfo("b")), 2.0)
    assert len(election._leader.concluded) == MOST_CONCLUDED
    assert ("c", number) in election._leader.concluded


def test_a_removed_member_learns_it_once_it_is_committed():
    """It stops then, and until then its vote may be needed to elect a leader that does not have the change."""
    election = leader()
    heartbeats = sent(election.receive(RemoveNode("c"), 2.0), Heartbeat)
    assert heartbeats["c"].membership is None
    assert heartbeats["b"].membership == members(4, 2, "ab")
    election.receive(answer(heartbeats["b"], "b"), 2.0)
    assert election.deadline == 2.0
    assert sent(election.timeout(2.0), Heartbeat)["c"].membership == members(4, 2, "ab")


def test_a_member_that_was_removed_before_others_learns_it_from_any_later_version():
    """It has answered with a membership that lacks it; that there is a newer one still is nothing to it."""
    election = old_member("a", membership=members(3, 1, "abcde"))
    lead(election)
    ready = election.receive(RemoveNode("e"), 2.0)
    for member in "bc":
        election.receive(answer(sent(ready, Heartbeat)[member], member), 2.0)
    heartbeats = sent(election.timeout(2.0), Heartbeat)
    ready = election.receive(RemoveNode("d"), 2.0)
    election.receive(answer(heartbeats["e"], "e", membership_version=(4, 2)), 2.0)
    assert election.departing == {"d"}


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


def test_a_leader_that_nobody_can_take_over_from_is_not_removed_and_goes_on_with_the_next_change():
    """The witnesses are a majority, and never lead. It waits for b as long as for voters that a change needs."""
    cluster = Cluster("abcd", witnesses=["c", "d"])
    cluster.run_until(5.0)
    cluster.cut = {"b"}
    cluster.run_until(7.0)
    cluster.tell("a", RemoveNode("a"))
    cluster.tell("a", AddNode(NodeInfo("o", voter=False)))
    cluster.run_until(11.875)
    assert cluster.events["a"][-1] == LeaderChanged("a", 1)
    cluster.run_until(12.5)
    refused, done = cluster.events["a"][-2:]
    assert refused == ChangeRefused(RemoveNode("a"), "no answer from b, and no other voter may lead now")
    assert done.control_message == AddNode(NodeInfo("o", voter=False))
    assert cluster.leases == ["a"]


def test_a_leader_whose_successors_all_decline_is_not_removed_and_ceases_to_hand_over():
    """It does not know them for witnesses: they have joined after its start. Each decline costs an election."""
    cluster = Cluster("ab", witnesses=["b"], min_nodes=1)
    cluster.run_until(5.0)
    cluster.elections["a"].witnesses = frozenset()
    cluster.start("c", witnesses=["c"])
    cluster.tell("a", AddNode("c"))
    cluster.run_until(7.0)
    cluster.tell("c", RemoveNode("a"))
    cluster.tell("a", AddNode(NodeInfo("o", voter=False)))
    cluster.run_until(30.0)
    refusal = "no other voter may lead now"
    assert cluster.events["c"][-1] == ChangeRefused(RemoveNode("a"), refusal)
    assert "o" in cluster.elections["a"].membership.ids
    handovers = max(cluster.winners)
    assert handovers < 10
    cluster.run_until(60.0)
    assert max(cluster.winners) == handovers


def test_a_leader_that_is_to_be_removed_goes_once_somebody_can_take_over():
    """b, which may lead, is back in time."""
    cluster = Cluster("abcd", witnesses=["c", "d"])
    cluster.run_until(5.0)
    cluster.cut = {"b"}
    cluster.run_until(7.0)
    cluster.tell("a", RemoveNode("a"))
    cluster.run_until(11.0)
    cluster.cut = set()
    cluster.run_until(13.0)
    assert cluster.leases == ["b"]
    assert cluster.elections["b"].membership.ids == {"b", "c", "d"}


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
    assert LeaderChanged("c", 2) in cluster.events["b"]


def test_a_request_gives_nobody_a_vote():
    """Asking is no sign of life of a leader, and changes nothing at the one that is asked."""
    election = new_member("c")
    election.receive(request_vote(election, "a"), 0.5)
    deadline = election.deadline
    election.receive(AddNode("d"), 0.75)
    assert (election.deadline, election.voted_for, election.membership) == (deadline, "a", members(0, 1, "abc"))
