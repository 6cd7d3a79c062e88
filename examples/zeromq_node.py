"""An election over ZeroMQ, for a program that has a message bus already: a `Node` that pushes, a thread that pulls.

Run it:  pip install pyzmq; python examples/zeromq_node.py

ZeroMQ leaves to you who may speak. Here each member has a CURVE key pair and knows the others' public keys: nobody else
is let in, and what a member says is believed in its own name only. Without this, whoever reaches the port has votes.
Messages travel as raftlite's codec writes them and are checked on arrival; `send_pyobj` would unpickle what strangers
send. And ZeroMQ tells nobody that a peer has died: a leader that was killed is replaced after an election timeout,
where `raftlite.Member` needs milliseconds.
"""

import contextlib
import threading

import zmq
from zmq.auth.thread import ThreadAuthenticator

from raftlite import ElectionThread, MalformedMessage, Node, Timing
from raftlite.codec import MAX_MESSAGE_BYTES, decode, encode


class ZeroMQNode(Node):
    def __init__(self, node_id, bus, address):
        super().__init__(node_id)
        self.socket = bus.socket(zmq.PUSH, sndhwm=100, curve_serverkey=bus.public_keys[node_id])
        self.socket.connect(address)

    def send_message(self, message):
        with contextlib.suppress(zmq.ZMQError):  # a Node may lose messages, but never block or raise
            self.socket.send(encode(message), zmq.DONTWAIT)

    def close(self):
        self.socket.close()


class Bus:
    """What a member has of ZeroMQ: its keys, the socket that its peers push to, and a thread that empties it."""

    def __init__(self, key_pair, public_keys, address="tcp://127.0.0.1:*"):
        self.key_pair, self.public_keys = key_pair, public_keys
        self.names = {key.decode(): name for name, key in public_keys.items()}
        self.context = zmq.Context()
        self.doorman = ThreadAuthenticator(self.context)
        self.doorman.start()
        self.doorman.configure_curve_callback(credentials_provider=self)
        self.pull = self.socket(zmq.PULL, curve_server=True, maxmsgsize=MAX_MESSAGE_BYTES)
        self.pull.bind(address)
        self.address = self.pull.last_endpoint.decode()

    def callback(self, domain, public_key):
        """The doorman asks whether somebody with this key may come in."""
        return public_key.decode() in self.names

    def socket(self, kind, **options):
        public, secret = self.key_pair
        socket = self.context.socket(kind)
        for name, value in dict(options, linger=0, curve_publickey=public, curve_secretkey=secret).items():
            setattr(socket, name, value)
        return socket

    def receive(self, inbox):
        with self.pull, contextlib.suppress(zmq.ContextTerminated):
            while True:
                frame = self.pull.recv(copy=False)
                with contextlib.suppress(MalformedMessage):
                    message = decode(frame.bytes)
                    if message.sender_id == self.names[frame.get("User-Id")]:
                        inbox.put(message)

    def close(self):
        """Ends `receive` too; waits for the nodes, which the member closes that had them."""
        self.doorman.stop()
        self.context.term()


def main():
    key_pairs = {name: zmq.curve_keypair() for name in ("a", "b", "c")}
    public_keys = {name: public for name, (public, _) in key_pairs.items()}
    buses = {name: Bus(key_pair, public_keys) for name, key_pair in key_pairs.items()}
    members = {}
    for name, bus in buses.items():
        nodes = [ZeroMQNode(peer, bus, other.address) for peer, other in buses.items() if peer != name]
        members[name] = ElectionThread(name, nodes, timing=Timing.fast())
    receivers = [threading.Thread(target=buses[name].receive, args=(members[name].inbox,)) for name in buses]
    for thread in [*receivers, *members.values()]:
        thread.start()

    for name, member in members.items():
        print(f"{name} follows {member.wait_for_leader(timeout=10)}")

    for member in members.values():
        member.stop()
    for bus in buses.values():
        bus.close()
    for receiver in receivers:
        receiver.join()


if __name__ == "__main__":
    main()
