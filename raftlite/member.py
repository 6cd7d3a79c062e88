"""`Member`: an election thread, its connections and its saved votes, assembled for a program."""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import threading
import time
from dataclasses import asdict
from multiprocessing import current_process
from pathlib import Path
from types import TracebackType
from typing import (
    TYPE_CHECKING,
    Any,
    Callable,
    Collection,
    Dict,
    Iterator,
    List,
    Mapping,
    Optional,
    Type,
    TypeVar,
    Union,
)

from raftlite.clock import check_timeout
from raftlite.errors import ConfigError, LeadershipLost, MembershipError, MemberStopped, RaftliteError, StorageError
from raftlite.leadership import Callback, Callbacks, Leadership, check_callback
from raftlite.membership import (
    Membership,
    NodeInfo,
    check_bounds,
    check_node_id,
    check_observers,
    check_witnesses,
    founding_membership,
)
from raftlite.messages import AddNode, RemoveNode
from raftlite.metrics import Number
from raftlite.nodes import secure
from raftlite.nodes.address import Address, is_wildcard, normalize, reachable
from raftlite.nodes.base import Node
from raftlite.nodes.listener import ConnectionListener, encoded_key
from raftlite.status import Status
from raftlite.steps import Step, check_steps
from raftlite.storage import MemoryStorage, SQLiteStorage, Storage, file_name
from raftlite.thread import ElectionThread
from raftlite.timing import Timing, check_timing, is_number

if TYPE_CHECKING:
    from raftlite.isolated.program import IsolatedElection
    from raftlite.nodes.tls import TlsContext

LONGEST_REQUEST = 3_600.0  # seconds
MOST_WAITING = 16  # requests of the command line, each of which holds a thread until the cluster has answered

_F = TypeVar("_F", bound=Callback)


class Member:
    """One member of a cluster. Use it in a `with` statement, or call `start` and `stop`.

    `peers` are the other members' ids and addresses (`host:port`, `[ipv6]:port` or the path of a Unix socket), `listen`
    is this member's own, and `advertise` the one that others reach it under, if that differs. `authkey` is the secret
    that every member shares, byte for byte; processes of one `multiprocessing` family have one. `ssl_context`, made by
    `raftlite.tls_context`, encrypts what members say to each other; all of them need one. Votes are saved in
    `data_dir`; without it they are forgotten with the process, and safety then rests on timing (see `MemoryStorage`).
    `observers`, the same on every member, are the ids of those that follow the leader and never vote; `voter=False` is
    for an observer that the others' `peers` do not name, and that `add_node` lets in. `witnesses`, the same on every
    member, are voters that never lead: one of three, say, where only two machines can do the work. `min_nodes` and
    `max_nodes` count voters, this one included: no election starts before `min_nodes` are known, nor do fewer elect a
    first leader (default: a majority of those given and of `max_nodes`, at least 2). `isolated=True` (Linux)
    runs the election in a child process, for a program that may hold the interpreter for seconds; the callbacks still
    run in this one.
    `steps`, a `queue.Queue(n)`, gets a `Step` after each thing that the election hears, for whoever watches; what does
    not fit is lost and counted, and the member never waits. An isolated member has none.

    Callbacks run on a thread of their own, in order: `on_elected(leadership)`, `on_lost(leadership)`,
    `on_leader_changed(leader_id, term)`.

    Raises `ConfigError` for settings that are out of bounds.
    """

    def __init__(
        self,
        node_id: str,
        *,
        peers: Optional[Mapping[str, Address]] = None,
        listen: Optional[Address] = None,
        advertise: Optional[Address] = None,
        authkey: Optional[Union[bytes, str]] = None,
        ssl_context: Optional[secure.AnyContext] = None,
        cluster: str = "raftlite",
        data_dir: Optional[Union[str, os.PathLike[str]]] = None,
        timing: Timing = Timing(),
        min_nodes: Optional[int] = None,
        max_nodes: Optional[int] = None,
        witnesses: Collection[str] = (),
        observers: Collection[str] = (),
        voter: bool = True,
        isolated: bool = False,
        steps: Optional[queue.Queue[Step]] = None,
        on_elected: Optional[Callback] = None,
        on_lost: Optional[Callback] = None,
        on_leader_changed: Optional[Callback] = None,
    ) -> None:
        check_node_id(node_id)
        self.node_id = node_id
        self.peers: Dict[str, str] = _check_peers(node_id, {} if peers is None else peers, listen, advertise)
        self.listen = None if listen is None else normalize(listen, "listen")
        if self.peers and self.listen is None:
            raise ConfigError("listen is missing: with peers, this member needs an address that they can reach")
        if advertise is not None and self.listen is None:
            raise ConfigError("listen is missing: nobody can reach this member under what it advertises")
        check_timing(timing)
        own = NodeInfo(node_id, voter)
        self._observers = check_observers({node_id, *self.peers}, observers) | ({node_id} if not own.voter else set())
        founding = founding_membership(node_id, [self._info(each) for each in (node_id, *self.peers)])
        check_bounds(founding, min_nodes, max_nodes)
        self._witnesses = check_witnesses(founding, witnesses, self._observers)
        self._advertise = None if advertise is None else reachable(advertise, "advertise")
        self._authkey, self._cluster = _check_authkey(authkey), _check_cluster(cluster)
        self._ssl_context = secure.checked(ssl_context)
        self._data_dir = _check_data_dir(data_dir)
        self._timing, self._min_nodes, self._max_nodes = timing, min_nodes, max_nodes
        self._is_isolated = _check_isolated(isolated, self._ssl_context)
        self._steps = check_steps(steps)
        if isolated and steps is not None:
            raise ConfigError("steps and isolated=True exclude each other: steps do not leave the election's process")
        self._memory = MemoryStorage()
        self._callbacks: List[Any] = []  # (name of the registering method, callback), for each start anew
        self._lock = threading.Lock()
        self._places = threading.BoundedSemaphore(MOST_WAITING)
        self._thread: Optional[Union[ElectionThread, IsolatedElection]] = None
        self._isolation: Optional[IsolatedElection] = None  # in the place of listener and storage
        self._listener: Optional[ConnectionListener] = None
        self._storage: Optional[Storage] = None
        for name, callback in (
            ("on_elected", on_elected),
            ("on_lost", on_lost),
            ("on_leader_changed", on_leader_changed),
        ):
            if callback is not None:
                self._register(name, callback)

    # --- Life -------------------------------------------------------------------------------------

    def start(self) -> Member:
        """Open the votes, listen, connect and take part. Starting again after `stop` is fine.

        Raises `OSError` where the address cannot be used, `StorageError` where the votes cannot be read, `ConfigError`
        where others can reach the address but there is neither `authkey` nor `ssl_context`, `MemberStopped` if it runs
        already or a callback of its former life does, and `ForkedError` in a child of the process that it ran in.
        """
        if self._thread is not None:
            self._thread.check_process()
        with self._lock:
            if self._listener is not None or self._storage is not None or self._isolation is not None:
                raise MemberStopped(f"{self.node_id} runs already: call stop() first")
            self._check_former_life()
            try:
                self._isolate() if self._is_isolated else self._assemble()
            except BaseException:  # Ctrl-C, too, leaves nothing listening
                self._take_apart()
                raise
        return self

    def stop(self, timeout: Optional[float] = 5.0) -> None:
        """Hand over if leading, then end every thread and connection. Twice is fine; callbacks may call it too.

        The successor has 0.02 s to be elected first, for which the end of connections and files leaves it the machine.
        Raises `TimeoutError` if a callback or the disk is still busy after `timeout` seconds; it does not lead then,
        nor listen. A signal handler had better raise (`sys.exit()`), which leaves the `with` block: it may have
        interrupted `start`.
        """
        timeout = check_timeout(timeout)
        is_over = False
        while not is_over:
            thread = self._thread
            if thread is not None and thread.is_forked_copy:
                return  # the copies of its sockets and files were closed when the process was forked
            try:
                if thread is not None:
                    thread.stop(timeout)
            finally:
                with self._lock:
                    is_over = self._thread is thread  # else another thread was starting it meanwhile
                    if is_over:
                        self._take_apart()

    def __enter__(self) -> Member:
        return self.start()

    def __exit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        self.stop()

    # --- Who leads --------------------------------------------------------------------------------

    @property
    def is_leader(self) -> bool:
        """Whether this member leads at this instant: true only while its lease holds, on at most one member."""
        thread = self._thread
        return thread is not None and thread.is_leader

    @property
    def leader_id(self) -> Optional[str]:
        """Who leads as far as this member knows, or None."""
        thread = self._thread
        return None if thread is None else thread.leader_id

    @property
    def membership(self) -> Membership:
        """The members as this one knows them. Raises `MemberStopped` before the first start, as `status` does."""
        return self._running().membership

    @property
    def address(self) -> Optional[str]:
        """Where this member listens: `listen`, with the port that the system chose where it was 0."""
        place = self._isolation or self._listener
        return self.listen if place is None else place.address

    def listener_fileno(self) -> int:
        """The descriptor of its listening socket. While another process has a copy, no peer takes this one for dead.

        Raises `MemberStopped` where it does not listen in this process: before `start`, after `stop`, and if isolated.
        """
        if self._listener is None:
            raise MemberStopped(f"{self.node_id} does not listen in this process")
        return self._listener.fileno()

    def status(self) -> Status:
        """This member's view at this moment, with the reason where there is no leader.

        An isolated member asks its process, and says what that said last where no answer comes in `message_timeout`.
        """
        return self._running().status()

    def metrics(self) -> Dict[str, Number]:
        """Counters and gauges as plain numbers, for whatever collects them; `raftlite.metrics.METRICS` describes each.

        With `prometheus_client`, in three lines:

            from prometheus_client import Gauge
            for name in member.metrics():
                Gauge(f"raftlite_{name}", name).set_function(lambda name=name: member.metrics()[name])

        Names in `_total` only grow, from 0 at each `start`. Raises `MemberStopped` before the first.
        """
        return self._running().metrics()

    def wait_for_leader(self, timeout: Optional[float] = None) -> str:
        """Wait up to `timeout` seconds until some member leads, without one for ever; return its id.

        Raises `TimeoutError`, which says why there is none, `MemberStopped`, `ForkedError`.
        """
        return self._running().wait_for_leader(timeout)

    def wait_until_leader(self, timeout: Optional[float] = None) -> Leadership:
        """Wait up to `timeout` seconds until this member leads, without one for ever; return the grant.

        Raises `TimeoutError`, `MemberStopped`, `ForkedError`.
        """
        return self._running().wait_until_leader(timeout)

    def on_elected(self, callback: _F) -> _F:
        """Call `callback(leadership)` whenever this member begins to lead; if it raises, the member resigns.

        Where it leads already, it is called for that grant. As all callbacks it runs on their own thread, one after the
        other, also after the next `start`; what it raises, `SystemExit` included, is logged and goes no further.
        """
        return self._register("on_elected", callback)

    def on_lost(self, callback: _F) -> _F:
        """Call `callback(leadership)` once for each grant that ends, also at `stop`; on the callbacks' thread."""
        return self._register("on_lost", callback)

    def on_leader_changed(self, callback: _F) -> _F:
        """Call `callback(leader_id, term)` for each new leader, this member too, and (None, term) when there is none.

        On the callbacks' thread.
        """
        return self._register("on_leader_changed", callback)

    def transfer_leadership(self, to: Optional[str] = None) -> None:
        """Hand leadership to `to`, or to the voter heard from last. Returns at once (thesis 3.10).

        Where that is refused, the log says why, at INFO; `hand_over` waits for the outcome. Raises `MemberStopped`,
        `ForkedError`.
        """
        self._running().transfer_leadership(to)

    def hand_over(self, to: Optional[str] = None, *, timeout: Optional[float] = None) -> str:
        """As `transfer_leadership`, then wait up to `timeout` seconds until another member leads; return its id.

        Any member may be asked. Raises `MembershipError` where it is refused or another than `to` leads then,
        `TimeoutError`, `MemberStopped`, `ForkedError`.
        """
        return self._running().hand_over(to, timeout)

    def resign(self) -> None:
        """Give leadership up and let the others campaign first, for two election timeouts. Returns at once.

        Of no effect where this member does not lead.
        """
        self._running().resign()

    def verify(self, timeout: Optional[float] = None) -> Leadership:
        """Ask the voters whether this member still leads, and return the grant once a majority has said so.

        Unlike `is_leader` this rests on no clock: nobody else had been elected when it was called (thesis 6.4). It
        takes a round trip. Raises `NotLeader`, and `TimeoutError` where no majority answers in `timeout` seconds.
        """
        return self._running().verify(timeout)

    @contextlib.contextmanager
    def leadership(self, timeout: Optional[float] = None) -> Iterator[Leadership]:
        """Wait until this member leads, run the body with the grant, and resign at its end.

        The body has to watch `leadership.lost` or call `leadership.check()`: it is not interrupted. A handover waits
        for its end, up to `election_timeout`. Raises `TimeoutError` where this member does not lead within `timeout`
        seconds, `MemberStopped`, and whatever the body raises.
        """
        thread = self._running()
        with thread.holding(thread.wait_until_leader(timeout)) as leadership:
            yield leadership

    def run(self, job: Callable[[Leadership], Any]) -> None:
        """Call `job(leadership)` on this thread, again each time that this member is elected, until it is stopped.

        A job that returns resigns; so does one that raises, and its exception ends `run`. A `LeadershipLost` of
        `leadership.check()` is no such exception. Stop the member from another thread, a callback or the job itself.
        Raises `MemberStopped` where it is a failure, or its removal, that has stopped the member.
        """
        if not callable(job):
            raise ConfigError(f"job is {job!r}, but must be a function of the leadership")
        thread = self._running()
        while True:
            try:
                leadership = thread.wait_until_leader()
            except MemberStopped:
                if thread.was_told_to_stop:
                    return
                raise
            with thread.holding(leadership):
                try:
                    job(leadership)
                except LeadershipLost:
                    if leadership.valid:  # it was not this one
                        raise

    def add_node(
        self, node_id: str, address: Address, *, voter: bool = True, timeout: Optional[float] = None
    ) -> Membership:
        """Let the member `node_id`, which listens at `address`, into the cluster; return the committed membership.

        Start it without peers, before or afterwards; it is waited for, and so is a first leader. (A member without
        peers that has not heard of a leader changes its own list, which the first election begins with.) Adding a
        member again changes its address or its vote. Any member may be asked. Raises `MembershipError` with the reason,
        `TimeoutError` without an answer in `timeout` seconds, `ConfigError`, `MemberStopped`, `ForkedError`.
        """
        info = NodeInfo(node_id, voter, reachable(address, f"the address of {node_id}"))
        if self.listen is None:
            raise ConfigError(f"listen is missing: {node_id} needs an address to reach {self.node_id} under")
        return self._change_membership(AddNode(info), timeout)

    def remove_node(self, node_id: str, *, timeout: Optional[float] = None) -> Membership:
        """Remove the member `node_id`, which learns it and stops; return the committed membership.

        Any member may be asked, and any may be removed: a leader hands over first. Raises as `add_node` does, and
        `MembershipError` where there is no such member, perhaps because an earlier request was carried out after all.
        """
        before = self.membership
        after = self._change_membership(RemoveNode(node_id), timeout)
        # For a leader, a node that is not there is removed: it may be asked again for what the one before it has done.
        # A leader that is new only stamps the version that it found with its term.
        if node_id not in before.ids and after.version == before.version:
            raise MembershipError(f"there is no member {node_id!r}: the members are {after}")
        return after

    def _change_membership(self, request: Union[AddNode, RemoveNode], timeout: Optional[float]) -> Membership:
        thread, timeout = self._running(), check_timeout(timeout)
        if self.peers and thread.current_term == 0:
            # Now it would change this member's own list, on it alone, and members whose lists differ elect nobody.
            began_at = time.monotonic()
            thread.wait_for_leader(timeout)
            timeout = None if timeout is None else round(max(0.0, timeout - (time.monotonic() - began_at)), 3)
        return thread.change_membership(request, timeout)

    # --- Assembling -------------------------------------------------------------------------------

    def _info(self, node_id: str, address: Optional[str] = None) -> NodeInfo:
        return NodeInfo(node_id, node_id not in self._observers, address)

    def _check_former_life(self) -> None:
        """The program must hear that a grant is lost before it hears of the next, which would be another thread's."""
        if self._thread is not None and self._thread.is_alive:
            still = "a callback of its former life is still running, or a connection is still closing"
            raise MemberStopped(f"{self.node_id} cannot start yet: {still}")

    def _assemble(self) -> None:
        self._storage = self._open_storage()
        nodes: List[Union[Node, NodeInfo]] = []
        own_address = None
        with contextlib.ExitStack() as undo:
            if self.listen is not None:
                self._listener = self._open_listener(self.listen)
                own_address = self._listener.identity.address
                for peer, address in self.peers.items():
                    node = self._listener.node(peer, address, voter=peer not in self._observers)
                    undo.callback(node.close)
                    nodes.append(node)
            nodes.append(self._info(self.node_id, None if _names_no_place(own_address) else own_address))
            self._thread = self._open_thread(nodes)
            if self._listener is not None:
                self._listener.watch_membership(lambda: self._running().membership)
                self._listener.answer_request = self._answer_request
                self._listener.start()
            undo.callback(self._thread.stop)  # Ctrl-C may come when it runs already
            self._thread.start()
            undo.pop_all()  # from now on the thread closes the nodes

    def _isolate(self) -> None:
        from raftlite.isolated.program import IsolatedElection

        self._isolation = IsolatedElection(self._settings(), self._memory)
        for name, callback in self._callbacks:
            getattr(self._isolation, name)(callback)
        self._isolation.open()
        self._thread = self._isolation
        self._thread.start()

    def _settings(self) -> Dict[str, Any]:
        """What the child process needs to know, as JSON data."""
        key, tls = self._authkey, self._ssl_context
        return {
            "node_id": self.node_id,
            "peers": self.peers,
            "listen": self.listen,
            "advertise": self._advertise,
            "authkey": None if key is None else key.hex(),
            "family_key": bytes(current_process().authkey).hex(),
            "tls_files": None if tls is None else {"cert": tls.cert, "key": tls.key, "ca": tls.ca},
            "cluster": self._cluster,
            "data_dir": None if self._data_dir is None else str(self._data_dir),
            "timing": asdict(self._timing),
            "min_nodes": self._min_nodes,
            "max_nodes": self._max_nodes,
            "witnesses": sorted(self._witnesses),
            "observers": sorted(self._observers),
            "log_level": logging.getLogger("raftlite").getEffectiveLevel(),
        }

    def _open_listener(self, address: str) -> ConnectionListener:
        return ConnectionListener(
            address,
            node_id=self.node_id,
            authkey=self._authkey,
            ssl_context=self._ssl_context,
            cluster=self._cluster,
            advertise=self._advertise,
            timing=self._timing,
        )

    def _open_thread(self, nodes: List[Union[Node, NodeInfo]]) -> ElectionThread:
        thread = ElectionThread(
            self.node_id,
            nodes,
            timing=self._timing,
            min_nodes=self._min_nodes,
            max_nodes=self._max_nodes,
            witnesses=self._witnesses,
            storage=self._storage,
            inbox=None if self._listener is None else self._listener.inbox,
            node_factory=self._make_node,
            callbacks=self._make_callbacks(),
            steps=self._steps,
        )
        for name, callback in self._callbacks:
            getattr(thread, name)(callback)
        return thread

    def _make_callbacks(self) -> Optional[Callbacks]:
        """What stands in for the thread of the callbacks, where there is such a thing."""
        return None

    def _open_storage(self) -> Storage:
        if self._data_dir is None:
            return self._memory
        try:
            self._data_dir.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StorageError(f"cannot make the folder {self._data_dir}: {error.strerror or error}") from error
        return SQLiteStorage(self._data_dir / file_name(self.node_id))

    def _take_apart(self) -> None:
        listener, self._listener = self._listener, None
        storage, self._storage = self._storage, None
        isolation, self._isolation = self._isolation, None
        if isolation is not None:
            isolation.close()
        if listener is not None:
            listener.close()
        if storage is not None:
            storage.close()

    def _make_node(self, info: NodeInfo) -> Optional[Node]:
        listener = self._listener
        if listener is None:
            return None
        address = listener.claimed_addresses.get(info.node_id) if _names_no_place(info.address) else info.address
        return None if address is None else listener.node(info.node_id, address, voter=info.voter)

    def _answer_request(self, request: Dict[str, Any]) -> Dict[str, Any]:
        """Serve the command line; runs on the connection's own thread."""
        try:
            return self._carry_out(request)
        except (RaftliteError, TimeoutError) as error:
            return {"refused": str(error)}
        except (KeyError, TypeError, ValueError):
            return {"refused": "the request lacks something or has it wrong"}

    def _carry_out(self, request: Dict[str, Any]) -> Dict[str, Any]:
        if request["request"] != "status":
            _check_timeout(request["timeout"])
            if not self._places.acquire(blocking=False):
                raise MembershipError(f"{MOST_WAITING} requests wait already: ask another member, or later")
            try:
                self._change(request["request"], request)
            finally:
                self._places.release()
        return self.status().to_plain()

    def _change(self, what: Any, request: Dict[str, Any]) -> None:
        if what == "add":
            self.add_node(request["id"], request["at"], voter=bool(request["voter"]), timeout=request["timeout"])
        elif what == "remove":
            self.remove_node(request["id"], timeout=request["timeout"])
        elif what == "transfer":
            self._running().hand_over(request["to"], request["timeout"])
        else:
            raise ConfigError(f"unknown request {str(what)[:100]!r}")

    def _register(self, name: str, callback: _F) -> _F:
        check_callback(name, callback)
        if self._thread is not None:
            getattr(self._thread, name)(callback)
        self._callbacks.append((name, callback))
        return callback

    def _running(self) -> Union[ElectionThread, IsolatedElection]:
        if self._thread is None:
            raise MemberStopped(f"{self.node_id} is not started: call start(), or use it in a with statement")
        return self._thread

    def __repr__(self) -> str:
        return f"Member({self.node_id!r}, peers={self.peers!r}, listen={self.listen!r})"


def _check_peers(
    node_id: str, peers: Mapping[str, Address], listen: Optional[Address], advertise: Optional[Address]
) -> Dict[str, str]:
    if not isinstance(peers, Mapping):
        raise ConfigError(f"peers is {peers!r:.100}, but must be a dict that gives each member's id its address")
    given = (("listen", listen), ("advertise", advertise))
    own = {normalize(address, name) for name, address in given if address is not None}
    addresses: Dict[str, str] = {}
    for peer, address in peers.items():
        address = _check_peer(peer, address)
        if peer == node_id:
            if address not in own:
                raise ConfigError(f"peers has {peer!r}, this member itself, at {address}, but listen is {listen!r}")
            continue
        addresses[peer] = reachable(address, f"the address of {peer}")
    for peer, address in addresses.items():
        if listen is not None and address == normalize(listen):
            raise ConfigError(f"peers gives {peer} the address {address}, but this member itself listens there")
        twins = [other for other, its in addresses.items() if its == address]
        if len(twins) > 1:
            raise ConfigError(f"peers gives {', '.join(twins)} the same address {address}")
    return addresses


def _check_peer(peer: str, address: Address) -> str:
    try:
        check_node_id(peer)
    except ConfigError as error:
        raise ConfigError(f"peers: {error}") from None
    return normalize(address, f"the address of {peer}")


def _check_authkey(authkey: Optional[Union[bytes, str]]) -> Optional[bytes]:
    if authkey is not None and (not isinstance(authkey, (bytes, bytearray, str)) or not authkey):
        raise ConfigError("authkey must be bytes or a string, and not empty")
    return encoded_key(authkey) if isinstance(authkey, str) else authkey


def _check_cluster(cluster: object) -> str:
    if not isinstance(cluster, str) or not cluster:
        raise ConfigError(f"cluster is {cluster!r}, but must be a name that all members share")
    return cluster


def _check_data_dir(data_dir: Optional[Union[str, os.PathLike[str]]]) -> Optional[Path]:
    if data_dir is None:
        return None
    if data_dir == "" or not isinstance(data_dir, (str, os.PathLike)):  # "": more likely a variable that is not set
        raise ConfigError(f"data_dir is {data_dir!r}, but must be the path of a folder")
    return Path(data_dir).absolute()  # a daemon may change its folder before the next start, and would find no votes


def _check_isolated(isolated: bool, tls: Optional[TlsContext]) -> bool:
    if not isinstance(isolated, bool):
        raise ConfigError(f"isolated is {isolated!r}, but must be True or False")
    if isolated:
        from raftlite.isolated.lease import check_isolation

        check_isolation()
        if tls is not None and not tls.cert:
            raise ConfigError("isolated=True needs an ssl_context that raftlite.tls_context has made of files")
    return isolated


def _check_timeout(seconds: Any) -> None:
    """A request from outside must not hold a thread for ever."""
    if not is_number(seconds) or not 0 <= seconds <= LONGEST_REQUEST:
        raise ConfigError(f"timeout is {seconds!r:.50}, but must be a number of seconds up to {LONGEST_REQUEST:g}")


def _names_no_place(address: Optional[str]) -> bool:
    return address is None or is_wildcard(address)
