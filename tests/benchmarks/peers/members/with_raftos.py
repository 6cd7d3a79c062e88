"""A member of raftos, with what it needs on a Python after 3.9: queues took a loop when it was written."""

import asyncio

from telling import ADDRESSES, FOLDER, NODE, PACE, tell


class Queue(asyncio.Queue):
    def __init__(self, *arguments, loop=None, **settings):
        super().__init__(*arguments, **settings)


asyncio.Queue = Queue

import raftos  # noqa: E402  # it makes its queues as it is imported

fast = {"heartbeat_interval": 0.05, "step_down_missed_heartbeats": 3, "election_interval_spread": 2}


async def main():
    settings = {"log_path": f"{FOLDER}/{NODE}/", "on_leader": lambda: tell("leader")}
    raftos.configure({**settings, **(fast if PACE == "fast" else {})})
    await raftos.register(ADDRESSES[NODE], cluster=ADDRESSES, loop=asyncio.get_running_loop())
    tell("started")
    await raftos.State.wait_for_election_success()
    tell("knows")
    tell("whole")  # it has no connections
    await asyncio.Event().wait()


asyncio.run(main())
