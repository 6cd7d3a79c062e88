"""A transport of your own: UDP on this machine. A `Node` sends; whatever receives puts messages into the inbox.

Run it:  python examples/own_node.py
"""

import contextlib
import socket
import threading

from raftlite import ElectionThread, MalformedMessage, Node, Timing
from raftlite.codec import decode, encode


class UDPNode(Node):
    def __init__(self, node_id, address):
        super().__init__(node_id)
        self.to = address
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)

    def send_message(self, message):
        with contextlib.suppress(OSError):  # a Node may lose messages, but never block or raise
            self.socket.sendto(encode(message), socket.MSG_DONTWAIT, self.to)

    def close(self):
        self.socket.close()


def receive(sock, inbox):
    while data := sock.recv(65536):  # an empty datagram ends it
        with contextlib.suppress(MalformedMessage):
            inbox.put(decode(data))


def main():
    sockets = {name: socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for name in ("a", "b", "c")}
    for sock in sockets.values():
        sock.bind(("127.0.0.1", 0))
    members, receivers = [], []
    for name, sock in sockets.items():
        peers = [UDPNode(peer, other.getsockname()) for peer, other in sockets.items() if peer != name]
        members.append(ElectionThread(name, peers, timing=Timing.fast()))
        receivers.append(threading.Thread(target=receive, args=(sock, members[-1].inbox)))
    for thread in receivers + members:
        thread.start()

    for member in members:
        print(f"{member.node_id} follows {member.wait_for_leader(timeout=10)}")

    for member in members:
        member.stop()
    for sock, receiver in zip(sockets.values(), receivers):
        sock.sendto(b"", sock.getsockname())
        receiver.join()
        sock.close()


if __name__ == "__main__":
    main()
