"""A member of raftlite, on Unix sockets where all are on one machine, with saved votes."""

import json

from telling import COUNT, FOLDER, NODE, PACE, PATHS_OR_ADDRESSES, tell, tell_when, wait_for_the_word

from raftlite import Member, Timing

peers = {f"n{number}": PATHS_OR_ADDRESSES[number] for number in range(COUNT)}
paces = {"fast": Timing.fast, "defaults": Timing}  # or settings, as JSON
timing = paces[PACE]() if PACE in paces else Timing(**json.loads(PACE))
member = Member(f"n{NODE}", peers=peers, listen=peers[f"n{NODE}"], authkey="benchmark", data_dir=FOLDER, timing=timing)
known = []


@member.on_elected
def elected(leadership):
    tell("leader")


@member.on_leader_changed
def changed(leader_id, term):
    if leader_id is not None and not known:
        known.append(leader_id)
        tell("knows")


member.start()
tell("started")
tell_when("whole", lambda: member.leader_id is not None and not member.status().unreachable, every=0.02)
wait_for_the_word()
member.stop()
