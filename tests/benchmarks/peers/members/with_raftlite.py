"""A member of raftlite, on Unix sockets as everywhere on one machine, with saved votes."""

from telling import COUNT, FOLDER, NODE, PACE, tell, tell_when, wait_for_the_word

from raftlite import Member, Timing

peers = {f"n{number}": f"{FOLDER}/n{number}" for number in range(COUNT)}
timing = Timing.fast() if PACE == "fast" else Timing()
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
