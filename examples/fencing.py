"""Why a lease is not enough: a leader is stopped in the middle of its work, and its late write is refused.

Three processes elect a leader, who has checked that it leads and is about to write when SIGSTOP suspends it, as a
hypervisor or a laptop's lid may do. Another takes over and writes. Then the first goes on where it was. It cannot know
better; the database can, because every write brings the token of its leadership.

Run it (not on Windows):  python examples/fencing.py
"""

import multiprocessing
import os
import signal
import sqlite3
import tempfile
from multiprocessing.connection import wait

from raftlite import Member, SQLiteFencingGate, StaleToken, Timing

GATE = SQLiteFencingGate("account 7")


def work(name, addresses, database, parent):
    with Member(name, peers=addresses, listen=addresses[name], timing=Timing.fast()) as member:
        leadership = member.wait_until_leader()  # so it leads at this moment, and may write
        parent.send((name, leadership.token))
        while parent.recv() != "write":  # the computer may stop the process here, for an hour
            leadership = member.wait_until_leader()
            parent.send((name, leadership.token))
        parent.send(write(database, name, leadership.token))
        parent.recv()


def write(path, name, token):
    connection = sqlite3.connect(path)
    try:
        with GATE.admit(connection, token):  # compared and written in one transaction
            connection.execute("INSERT INTO entries VALUES (?, ?)", (name, token))
        return "written"
    except StaleToken as error:
        return str(error)
    finally:
        connection.close()


def next_leader(pipes, after):
    """The end of the pipe to whoever says next that it leads, with its name and token, which is above `after`."""
    while True:
        pipe = wait(pipes)[0]
        name, token = pipe.recv()
        if token > after:
            return pipe, name, token
        pipe.send("wait")  # its time was over before this program heard of it


def main(folder):
    database = f"{folder}/accounts.sqlite3"
    with sqlite3.connect(database) as connection:
        connection.execute("CREATE TABLE entries (author TEXT, token INTEGER)")
    addresses = {name: f"{folder}/{name}.sock" for name in ("a", "b", "c")}
    processes, pipes = {}, []
    for name in addresses:
        ours, theirs = multiprocessing.Pipe()
        pipes.append(ours)
        processes[name] = multiprocessing.Process(target=work, args=(name, addresses, database, theirs), daemon=True)
        processes[name].start()
    try:
        change_hands(processes, pipes)
    finally:
        for process in processes.values():
            process.kill()
            process.join()
    print("the database holds:", *connection.execute("SELECT * FROM entries"))
    connection.close()


def change_hands(processes, pipes):
    first_pipe, first, token = next_leader(pipes, after=0)
    os.kill(processes[first].pid, signal.SIGSTOP)
    print(f"{first} leads with token {token}, was about to write, and is stopped")

    pipes.remove(first_pipe)
    second_pipe, second, token = next_leader(pipes, after=token)
    second_pipe.send("write")
    print(f"{second} leads with token {token} and writes: {second_pipe.recv()}")

    first_pipe.send("write")
    os.kill(processes[first].pid, signal.SIGCONT)
    print(f"{first} goes on and writes: {first_pipe.recv()}")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        main(folder)
