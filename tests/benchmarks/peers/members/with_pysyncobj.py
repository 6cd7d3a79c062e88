"""A member of PySyncObj, with a journal, which is where it saves its votes."""

import time

from pysyncobj import SyncObj, SyncObjConf
from telling import ADDRESSES, FOLDER, NODE, OTHERS, PACE, tell, tell_when, wait_for_the_word

LEADER = 2


def changed(before, after):
    if after == LEADER:
        tell("leader")


# Its heartbeats have to be more than three to the shortest timeout; unless told, it looks for peers every five seconds.
fast = {"raftMinTimeout": 0.15, "raftMaxTimeout": 0.3, "appendEntriesPeriod": 0.0499, "connectionRetryTime": 0.5}
settings = SyncObjConf(
    onStateChanged=changed, journalFile=f"{FOLDER}/journal-{NODE}", **(fast if PACE == "fast" else {})
)
member = SyncObj(ADDRESSES[NODE], [ADDRESSES[number] for number in OTHERS], settings)
tell("started")
tell_when("knows", lambda: member._getLeader() is not None)
tell_when("whole", lambda: all(member.isNodeConnected(node) for node in member.otherNodes), every=0.02)
wait_for_the_word()
member.transferLeadership()
time.sleep(0.2)  # it says nothing when that is done
member.destroy()
