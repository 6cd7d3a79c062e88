"""A member of pyraft. Its times are constants in whole seconds, so there is one pace only; it saves no votes."""

from pyraft import raft
from telling import ADDRESSES, COUNT, NODE, OTHERS, tell, tell_when


class Node(raft.RaftNode):
    def on_leader(self):
        tell("leader")


ensemble = {str(number): ADDRESSES[number] for number in range(COUNT)}
node = Node(str(NODE), ADDRESSES[NODE], ensemble)
node.start()
tell("started")
tell_when("knows", lambda: node.state in ("f", "l"))
tell_when("whole", lambda: all(node.peers[str(number)].raft_req.connected() for number in OTHERS), every=0.02)
node.join()
