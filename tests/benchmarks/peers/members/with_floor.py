"""The floor: what no election can do without, and no rules. One thread, sockets and SQLite; it is never in doubt.

Who comes next is agreed beforehand, so nobody ever competes: the heir is the number after the leader's, and at first it
is 0. An heir begins when its connection to the leader ends, when the leader has been silent for the shortest timeout or
says that it stops. It saves and asks everybody; whoever is asked saves and answers; once a majority has, it beats, and
when a majority has answered that, it leads.
"""

import contextlib
import os
import selectors
import socket
import sqlite3
import sys
import time

from telling import COUNT, FOLDER, NODE, OTHERS, PACE, PATHS_OR_ADDRESSES, tell

BEAT, HEARD, ASK, GRANT, OVER = b"bh?!o"
TIMEOUT = 0.15 if PACE == "fast" else 1.0  # seconds
INTERVAL = 0.05
OTHERS_OF_A_MAJORITY = COUNT // 2


class Floor:
    def __init__(self):
        self.database = sqlite3.connect(f"{FOLDER}/n{NODE}.sqlite3", isolation_level=None)
        self.database.execute("PRAGMA journal_mode=WAL")
        self.database.execute("PRAGMA synchronous=FULL")
        self.database.execute("CREATE TABLE IF NOT EXISTS saved (id INTEGER PRIMARY KEY, vote REAL)")
        self.is_back = self.database.execute("SELECT COUNT(*) FROM saved").fetchone() != (0,)
        self.peers = {}  # number -> the connection to it
        self.visitors = {}  # number -> the connection from it
        self.answers = set()  # to what was asked last
        self.leader = None
        self.is_leader = self.is_candidate = False
        self.told = set()
        self.deadline = None  # of the next beat of this one or of its leader
        self.selector = selectors.DefaultSelector()

    def run(self):
        self.listener = listen(PATHS_OR_ADDRESSES[NODE])
        self.selector.register(self.listener, selectors.EVENT_READ, self.accept)
        self.selector.register(sys.stdin, selectors.EVENT_READ, self.obey)
        tell("started")
        for peer in OTHERS:
            self.dial(peer)
        while True:
            for key, _ in self.selector.select(self.remaining()):
                key.data(key.fileobj)
            self.look_at_the_clock()

    # --- Connections ------------------------------------------------------------------------------

    def dial(self, peer):
        sock, address = socket_for(PATHS_OR_ADDRESSES[peer])
        try:
            sock.connect(address)
        except OSError:
            sock.close()  # it does not listen yet, and will dial this one
        else:
            sock.sendall(bytes([NODE]))
            self.peers[peer] = sock

    def accept(self, listener):
        sock, _ = listener.accept()
        peer = sock.recv(1)[0]
        if peer in self.visitors:  # its network was cut, so its end has not been heard
            self.part_from(peer)
        self.visitors[peer] = sock
        self.selector.register(sock, selectors.EVENT_READ, lambda _: self.read(peer, sock))
        if peer not in self.peers:
            self.dial(peer)
        if NODE == 0 and not self.is_back and self.leader is None and self.is_connected():
            self.stand()
        self.tell_what_is_known()

    def read(self, peer, sock):
        words = sock.recv(100)
        for word in words:
            self.hear(peer, word)
        if not words:
            self.part_from(peer)
            if peer == self.leader:
                self.stand_if_heir()

    def part_from(self, peer):
        sock = self.visitors.pop(peer)
        self.selector.unregister(sock)
        sock.close()
        with contextlib.suppress(KeyError):
            self.peers.pop(peer).close()

    def send(self, word, *peers):
        for peer in peers:
            with contextlib.suppress(KeyError, OSError):
                self.peers[peer].sendall(bytes([word]))

    def obey(self, stdin):
        if not stdin.readline():
            sys.exit()
        tell("stopping")
        self.leader, self.is_leader, self.deadline = (NODE + 1) % COUNT, False, None  # its next beat would be obeyed
        self.send(OVER, self.leader)

    def is_connected(self):
        return len(self.visitors) == len(self.peers) == COUNT - 1

    # --- An election that nobody can lose -----------------------------------------------------------

    def stand_if_heir(self):
        if (self.leader + 1) % COUNT == NODE and not self.is_candidate:
            self.stand()

    def stand(self):
        self.is_candidate, self.answers = True, set()
        self.deadline = None
        self.save()
        self.send(ASK, *OTHERS)

    def hear(self, peer, word):
        if word == BEAT:
            self.follow(peer)
        elif word == ASK:
            self.save()
            self.send(GRANT, peer)
        elif word == OVER:
            self.stand()
        elif word == GRANT and self.is_candidate and self.is_answered_by(peer):
            self.is_candidate, self.leader, self.answers = False, NODE, set()
            self.beat()
        elif word == HEARD and self.leader == NODE and not self.is_leader and self.is_answered_by(peer):
            self.is_leader = True
            tell("leader")
            self.tell_what_is_known()

    def is_answered_by(self, peer):
        self.answers.add(peer)
        return len(self.answers) == OTHERS_OF_A_MAJORITY

    def save(self):
        self.database.execute("REPLACE INTO saved VALUES (1, ?)", (time.monotonic(),))

    def follow(self, leader):
        self.send(HEARD, leader)
        self.leader, self.is_leader = leader, False
        self.deadline = time.monotonic() + TIMEOUT
        self.tell_what_is_known()

    def tell_what_is_known(self):
        if self.leader is not None:
            self.tell_once("knows")
            if self.is_connected():
                self.tell_once("whole")

    def tell_once(self, event):
        if event not in self.told:
            self.told.add(event)
            tell(event)

    def beat(self):
        self.deadline = time.monotonic() + INTERVAL
        self.send(BEAT, *OTHERS)

    # --- Time -------------------------------------------------------------------------------------

    def remaining(self):
        return None if self.deadline is None else max(0.0, self.deadline - time.monotonic())

    def look_at_the_clock(self):
        if self.remaining() != 0.0:
            return
        if self.leader == NODE:
            self.beat()
        else:
            self.deadline = None
            self.stand_if_heir()


def listen(path_or_address):
    sock, address = socket_for(path_or_address)
    if sock.family == socket.AF_INET:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    else:
        with contextlib.suppress(OSError):
            os.unlink(address)
    sock.bind(address)
    sock.listen()
    return sock


def socket_for(path_or_address):
    """A socket, and the address as it takes it."""
    host, _, port = path_or_address.rpartition(":")
    if not host:
        return socket.socket(socket.AF_UNIX), path_or_address
    sock = socket.socket(socket.AF_INET)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock, (host, int(port))


if __name__ == "__main__":
    Floor().run()
