"""Part E: answer a RequestVote as Raft does. Run this file to try it: python student.py"""

from __future__ import annotations

from raftlite.lab.student import StudentElection, try_out
from raftlite.messages import RequestVote


class Voter(StudentElection):
    """A member of the cluster. Everything but this one answer is written."""

    def _on_request_vote(self, request: RequestVote, now: float) -> None:
        """`request.sender_id` asks for this member's vote in `request.term`.

        With `request.pre_vote` it only asks whether it would get one: answer, and change nothing.

        You may look at     self.node_id, self.current_term, self.voted_for
                            self.leader_is_alive(request, now)      why nobody else may be elected now, or ""
                            self.may_have_forgotten(request, now)   why this member must not vote yet, or ""
        and you may call    self.begin_term(term, now)              a newer term, in which it has not voted
                            self.vote_for(candidate, now)           vote in the current term
                            self.answer(request, granted, why)      exactly once

        Figure 2 of the paper, RequestVote RPC, receiver: (1) reply false if term < currentTerm; (2) if votedFor is
        null or candidateId, grant the vote. And for all servers: if a request contains a term T > currentTerm, set
        currentTerm = T and convert to follower. In raftlite a member that knows a leader to be alive refuses before
        it looks at the term, which it does not take over then (thesis 4.2.3). There are no logs to compare.
        """
        self.answer(request, False, "not written yet")


if __name__ == "__main__":
    raise SystemExit(0 if try_out(Voter) else 1)
