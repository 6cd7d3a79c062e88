"""A job that runs on exactly one of three processes: start one per terminal, then end or kill the one that works.

    python examples/three_terminals.py a
    python examples/three_terminals.py b
    python examples/three_terminals.py c

To use three machines instead, replace 127.0.0.1 by their addresses and the key by a secret of your own.
"""

import sys
import time

from raftlite import Member

ADDRESSES = {"a": "127.0.0.1:7601", "b": "127.0.0.1:7602", "c": "127.0.0.1:7603"}

if len(sys.argv) < 2 or sys.argv[1] not in ADDRESSES:
    sys.exit(f"usage: python {sys.argv[0]} {'|'.join(ADDRESSES)} [FOLDER OF THE VOTES]")
name = sys.argv[1]
folder = sys.argv[2] if len(sys.argv) > 2 else ".raftlite-data"  # where the votes are saved

with Member(name, peers=ADDRESSES, listen=ADDRESSES[name], authkey="classroom", data_dir=folder) as member:
    member.on_leader_changed(lambda leader, term: print(f"{name}: {leader or 'nobody'} leads", flush=True))
    try:
        while True:
            if member.is_leader:
                print(f"{name}: working, as the only one", flush=True)
            time.sleep(1)
    except KeyboardInterrupt:
        print(f"{name}: handing over")
