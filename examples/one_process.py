"""Three threads of one process elect a leader; when it stops, another takes over.

Run it:  python examples/one_process.py
"""

from raftlite import AddNode, ElectionThread, Timing

threads = {name: ElectionThread(name, timing=Timing.fast(), min_nodes=3) for name in ("a", "b", "c")}
for thread in threads.values():
    thread.start()

# Nobody knows anybody yet. The way in is a message in the inbox, for a program as for a peer.
for thread in threads.values():
    for other in threads.values():
        if other is not thread:
            thread.inbox.put(AddNode(other.node))

first = threads["a"].wait_for_leader(timeout=10)
leadership = threads[first].wait_until_leader(timeout=10)
print(f"{first} leads with token {leadership.token}")

threads.pop(first).stop()
print(f"{first} has stopped; its grant is {'still valid' if leadership.valid else 'over'}")

survivor = next(iter(threads.values()))
for event in iter(survivor.events.get, None):
    leader = getattr(event, "leader_id", None)
    if leader in threads:
        print(f"{leader} leads now")
        break

for thread in threads.values():
    thread.stop()
