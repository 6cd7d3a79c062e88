"""`ConnectionListener`: hears what peers say over the connections that they dial, and finds out when one has died.

    peer's ConnectionNode ═══▶ Acceptor: a thread a connection ─▶ authenticate, hello, welcome ─▶ inbox reads messages
                                                      └─ it ends ─▶ dial the peer's address: proof? ─▶ PeerDown ─▶ inbox
"""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
import time
from dataclasses import dataclass
from multiprocessing import current_process
from typing import Any, Callable, Dict, Optional, Set, Union

from raftlite.codec import decode, shorten
from raftlite.errors import ConfigError, MalformedMessage
from raftlite.membership import LONGEST_ID, Membership, check_node_id
from raftlite.messages import Message, PeerDown, PeerUp
from raftlite.nodes import secure
from raftlite.nodes.acceptor import Acceptor
from raftlite.nodes.address import (
    Address,
    host_and_port,
    is_loopback,
    is_path,
    is_wildcard,
    normalize,
    reachable,
)
from raftlite.nodes.channel import PROTOCOL, BrokenOff, Channel, Identity, Refused, quoted
from raftlite.nodes.connection import HINT_PATIENCE, ConnectionNode, check_incarnation
from raftlite.nodes.inbox import PollingInbox, new_inbox
from raftlite.nodes.quiet import QuietLog
from raftlite.timing import Timing

logger = logging.getLogger(__name__)

INBOX_LENGTH = 10_000  # messages from peers are dropped while so many wait: the program is stuck or flooded
TAKEOVER_TAKES = 0.02  # seconds for which the processor is left to the election after a death, before anybody redials

AnswerRequest = Callable[[Dict[str, Any]], Dict[str, Any]]


@dataclass(eq=False)
class _Visitor:
    """A peer that has dialled this member, and is heard over that connection."""

    node_id: str
    incarnation: str
    channel: Channel
    heard_at: float


class ConnectionListener:
    """Listens at `address` and puts what authenticated peers say into `inbox`. Also a context manager.

    `authkey` defaults to the key that the processes of one `multiprocessing` family share. `cluster` names the
    cluster: members of another one are turned away. `advertise` is the address that others reach this member under,
    where it is not `address`. `ssl_context`, made by `raftlite.tls_context`, encrypts what is said here and over this
    listener's nodes; then the certificates prove who is a member, and `authkey` may be left out. Peers may connect at
    once; they are answered from `start` on, by threads of its own.

    Raises `ValueError` for an address that other machines can reach without an explicit `authkey`, `ConfigError` for
    one that is no address, `OSError` for one that is in use, unknown or not permitted.
    """

    def __init__(
        self,
        address: Address,
        inbox: Optional[queue.Queue[Any]] = None,
        *,
        node_id: str,
        authkey: Optional[Union[bytes, str]] = None,
        cluster: str = "raftlite",
        advertise: Optional[Address] = None,
        timing: Timing = Timing(),
        ssl_context: Optional[secure.AnyContext] = None,
    ) -> None:
        check_node_id(node_id)
        address = normalize(address)
        tls = secure.checked(ssl_context)
        if authkey is None and tls is None and not is_loopback(address):
            raise ConfigError(
                f"authkey is missing, but other machines can reach {address}: give every member the same secret"
            )
        key = secure.CERTIFIED if tls is not None and authkey is None else _key(authkey)
        advertised = None if advertise is None else reachable(advertise, "advertise")
        self.claimed_addresses: Dict[str, str] = {}  # where members that dialled here say that they listen
        self.answer_request: Optional[AnswerRequest] = None  # answers `raftlite status` and the like
        self._timing = timing
        self._nodes: Dict[str, ConnectionNode] = {}
        self._visitors: Dict[str, _Visitor] = {}  # by their ids
        self._visitor_left = threading.Condition()
        self._alive: Dict[str, str] = {}  # peer -> its latest incarnation, unless that is proved to be gone
        self._replaced: Set[str] = set()  # incarnations of visitors that fell silent, and another process came
        self._quiet = QuietLog(logger)
        self._acceptor = Acceptor(address, f"raftlite-{node_id}", self._serve, timing.message_timeout, tls)
        try:
            self.inbox: queue.Queue[Any] = inbox if inbox is not None else new_inbox()
        except BaseException:  # no descriptor is left; or Ctrl-C
            self._acceptor.close()
            raise
        self.address = self._acceptor.address
        self.identity = Identity(node_id, key, cluster, advertised or self.address, tls=tls)

    @property
    def node_id(self) -> str:
        """This member's id."""
        return self.identity.node_id

    def node(self, node_id: str, address: Address, *, voter: bool = True) -> ConnectionNode:
        """Return a handle on the member that listens at `address`; it connects under this member's identity."""

        def prove(incarnation: str) -> None:
            self._prove_death(node_id, incarnation)

        def reached() -> None:
            self._tell_if_up(node_id)

        settings: Dict[str, Any] = {"timing": self._timing, "voter": voter}
        node = ConnectionNode(node_id, address, self.identity, on_doubt=prove, on_reached=reached, **settings)
        self._nodes[node_id] = node
        self._tell_if_up(node_id)  # it may have been quicker
        return node

    def watch_membership(self, membership: Callable[[], Optional[Membership]]) -> None:
        """Turn away ids that `membership()` lacks, unless the dialler's membership is another version."""
        self.identity.membership = membership

    def start(self) -> ConnectionListener:
        """Answer whoever connects from now on. Once."""
        tls = self.identity.tls
        why_refused = "" if tls is None else tls.why_refused(self.node_id)
        if why_refused:  # no error: it may be this machine's clock that is wrong, and others judge by theirs
            logger.warning("%s: others will not accept this member's certificate: %s", self.node_id, why_refused)
        self._acceptor.start()
        return self

    def fileno(self) -> int:
        """The descriptor of the listening socket: while anybody has a copy of it, no peer takes this one for dead."""
        return self._acceptor.fileno()

    def close(self) -> None:
        """Stop listening, end every connection and thread. Twice is fine."""
        self._acceptor.close()
        if isinstance(self.inbox, PollingInbox):
            self.inbox.close()

    def __enter__(self) -> ConnectionListener:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- One thread for each connection -----------------------------------------------------------

    def _serve(self, channel: Channel, remote: str) -> None:
        try:
            with channel.limited(self._timing.message_timeout):
                channel.authenticate_as_listener(self.identity.authkey)
                hello = channel.recv_hello()
            refusal = self._why_refuse(hello, channel)
            if hello.get("kind") == "request" and not refusal and self.answer_request:
                self._acceptor.admit(channel)  # the answer may have to wait for the cluster
                channel.send_json(self.answer_request(hello))
                return
            if refusal:
                channel.send_json(self.identity.hello(refused=refusal))
                raise Refused(refusal)
        except (OSError, MalformedMessage) as error:
            if not self._acceptor.is_closed:
                # A peer that looks whether this process lives says nothing, and neither does a port scanner.
                has_broken_off = isinstance(error, BrokenOff) and not channel.was_shut_down
                is_no_news = channel.ended_unheard or has_broken_off
                level = logging.DEBUG if is_no_news else logging.WARNING
                self._quiet.log(level, f"{self.node_id}: turned away {_host(remote)}: {error}")
            return
        self._read_as_peer(channel, hello, remote)

    def _why_refuse(self, hello: Dict[str, Any], channel: Channel) -> str:
        if hello.get("protocol") != PROTOCOL:
            return f"{_who(hello)} speaks protocol {shorten(hello.get('protocol'))}, but {self.node_id} {PROTOCOL}"
        if hello.get("cluster") != self.identity.cluster:
            theirs, ours = shorten(hello.get("cluster")), self.identity.cluster
            return f"{_who(hello)} names the cluster {theirs}, but {self.node_id} names it {ours!r}"
        if hello.get("kind") == "request":
            return "" if self.answer_request else "no requests are answered here"
        if hello.get("to") != self.node_id:
            return f"{shorten(hello.get('to'))} is meant, but this is {self.node_id!r}"
        return quoted(hello.get("refused")) or self._why_refuse_peer(hello, channel)

    def _why_refuse_peer(self, hello: Dict[str, Any], channel: Channel) -> str:
        peer, incarnation = hello.get("node_id"), hello.get("incarnation")
        try:
            check_node_id(peer)
            check_incarnation(hello)
        except ConfigError:
            return f"node id is {shorten(peer)}, but must be 1 to {LONGEST_ID} printable characters"
        except Refused as error:
            return str(error)
        if peer == self.node_id:
            return f"this is {peer} itself: two processes use one id"
        why_not = channel.why_not(str(peer))
        if why_not:
            return why_not
        node = self._nodes.get(str(peer))
        if node is not None and not node.may_be(incarnation):
            return f"another process answers as {peer} at {node.address}: two processes use one id"
        if not self._may_visit(str(peer), str(incarnation)):
            return f"another process is connected as {peer}: two processes use one id"
        self._wait_for_proof(str(peer), str(incarnation))
        membership = self.identity.membership()
        if membership is None or peer in membership.ids:
            return ""
        if hello.get("membership_version") != list(membership.position):
            return ""  # one of the two lags behind, and only messages can tell which
        return f"{peer} is no member; {self.node_id} knows {', '.join(sorted(membership.ids))}"

    def _may_visit(self, peer: str, incarnation: str) -> bool:
        """Whether no other process than this one visits as `peer`; waits, as the end of a dead one's takes a moment."""
        patience = min(4 * HINT_PATIENCE, self._timing.message_timeout / 2)  # the newcomer must still hear the answer
        with self._visitor_left:
            return self._visitor_left.wait_for(lambda: self._has_no_rival(peer, incarnation), patience)

    def _has_no_rival(self, peer: str, incarnation: str) -> bool:
        visitor = self._visitors.get(peer)
        if visitor is None or visitor.incarnation == incarnation:
            return True
        if incarnation in self._replaced:
            return False  # it was thought dead, but a process that is dead does not come back
        # A leader or candidate that lives is heard within two election timeouts. A follower may say nothing for days,
        # but so does a machine that has lost its power: let the other in, and refuse the silent one if it comes back.
        return time.monotonic() - visitor.heard_at >= 2 * self._timing.election_timeout

    def _wait_for_proof(self, peer: str, incarnation: str) -> None:
        """Let this member's own dial find out first whether the process before it is gone.

        The death of a leader must be told before anything that its next life says. Where it cannot be proved, as after
        a move to another address or for a second process with its id, it is not told at all.
        """
        node = self._nodes.get(peer)
        if node is None:
            return
        node.hint(incarnation)
        patience = min(4 * HINT_PATIENCE, self._timing.message_timeout / 2)
        with self._visitor_left:
            self._visitor_left.wait_for(lambda: self._alive.get(peer, incarnation) == incarnation, patience)

    def _read_as_peer(self, channel: Channel, hello: Dict[str, Any], remote: str) -> None:
        peer = str(hello["node_id"])
        self._note_address(peer, hello.get("address"), remote)
        visitor = _Visitor(peer, hello["incarnation"], channel, time.monotonic())
        self._welcome(visitor)
        self._hint(peer, visitor.incarnation)
        try:
            channel.send_json(self.identity.hello(refused=""))
            self._acceptor.admit(channel)
            self._tell_if_up(peer)
            self._read_messages(visitor)
        except (EOFError, OSError):
            pass  # the peer has closed the connection, or its process is gone
        except MalformedMessage as error:
            self._quiet.log(
                logging.WARNING, f"{self.node_id}: closed the connection from {peer} at {_host(remote)}: {error}"
            )
        finally:
            self._part_from(visitor)
            self._prove_death(peer, visitor.incarnation)
            self._hint(peer)

    def _welcome(self, visitor: _Visitor) -> None:
        with self._visitor_left:
            former = self._visitors.get(visitor.node_id)
            self._visitors[visitor.node_id] = visitor
            if former is not None and former.incarnation != visitor.incarnation:
                self._replaced.add(former.incarnation)
            self._alive[visitor.node_id] = visitor.incarnation
        if former is not None:
            former.channel.shut_down()

    def _tell_if_up(self, peer: str) -> None:
        """Tell the election once the two have reached each other, so that the one can also prove the other's death."""
        node, visitor = self._nodes.get(peer), self._visitors.get(peer)
        if node is not None and visitor is not None and node.peer_incarnation == visitor.incarnation:
            with contextlib.suppress(queue.Full):
                self.inbox.put_nowait(PeerUp(peer, node.round_trip))

    def _prove_death(self, peer: str, incarnation: str) -> None:
        """Tell the election if there is proof that this incarnation of `peer` is gone. Dials, so not under the lock."""
        if self._acceptor.is_closed or not self._may_be_gone(peer, incarnation):
            return
        node = self._nodes.get(peer)
        began_at = time.monotonic()
        if node is not None and node.is_gone(incarnation):
            round_trip = time.monotonic() - began_at  # a dial, and its refusal
            with self._visitor_left:
                if not self._may_be_gone(peer, incarnation):
                    return  # another has said something meanwhile
                self._tell_death(peer, round_trip)
            node.park(incarnation)
            time.sleep(TAKEOVER_TAKES)

    def _may_be_gone(self, peer: str, incarnation: str) -> bool:
        visitor = self._visitors.get(peer)
        is_connected = visitor is not None and visitor.incarnation == incarnation
        return self._alive.get(peer) == incarnation and not is_connected

    def _tell_death(self, peer: str, round_trip: float) -> None:
        del self._alive[peer]
        self._visitor_left.notify_all()
        with contextlib.suppress(queue.Full):
            self.inbox.put_nowait(PeerDown(peer, round_trip))

    def _part_from(self, visitor: _Visitor) -> None:
        with self._visitor_left:
            if self._visitors.get(visitor.node_id) is visitor:
                del self._visitors[visitor.node_id]
                self._visitor_left.notify_all()

    def _read_messages(self, visitor: _Visitor) -> None:
        while True:
            if isinstance(self.inbox, PollingInbox) and self.inbox.has_reader:
                self.inbox.read_to_the_end(visitor.channel, lambda data: _hear(visitor, data))
            message = _hear(visitor, visitor.channel.recv_bytes())
            if self.inbox.qsize() < INBOX_LENGTH:
                with contextlib.suppress(queue.Full):  # like any network, this one may lose a message
                    self.inbox.put_nowait(message)

    def _note_address(self, peer: str, address: Any, remote: str) -> None:
        if not isinstance(address, str):
            return
        try:
            address = normalize(address)
            if is_wildcard(address) and not is_path(remote):
                address = normalize((host_and_port(remote)[0], host_and_port(address)[1]))
        except ConfigError:
            return
        self.claimed_addresses[peer] = address

    def _hint(self, peer: str, incarnation: Optional[str] = None) -> None:
        node = self._nodes.get(peer)
        if node is not None:
            node.hint(incarnation)


def _hear(visitor: _Visitor, data: bytes) -> Message:
    message = decode(data)
    visitor.heard_at = time.monotonic()
    if message.sender_id != visitor.node_id:
        raise MalformedMessage(f"a message of {message.sender_id} came over the connection of {visitor.node_id}")
    return message


def _who(hello: Dict[str, Any]) -> str:
    """In a sentence that both sides read, "here" and "there" would be wrong for one of them."""
    return "the command" if hello.get("kind") == "request" else shorten(hello.get("node_id")).strip("'")


def _host(remote: str) -> str:
    """Where a connection comes from, for a log line: with its port, which is new each time, no line would repeat."""
    return remote if is_path(remote) else host_and_port(remote)[0]


def _key(authkey: Optional[Union[bytes, str]]) -> bytes:
    if authkey is None:
        return bytes(current_process().authkey)
    if isinstance(authkey, str):
        authkey = encoded_key(authkey)
    if not isinstance(authkey, (bytes, bytearray)) or not authkey:
        raise ConfigError("authkey must be bytes or a string, and not empty")
    return bytes(authkey)


def encoded_key(authkey: str) -> bytes:
    """The bytes of a key that is given as text. Raises `ConfigError` where there are none."""
    if any("\ud800" <= each <= "\udfff" for each in authkey):  # the error of `encode` would hold the key
        raise ConfigError("authkey is no UTF-8, perhaps of a variable: give os.fsencode() of it")
    return authkey.encode()
