"""raftlite elects one leader among the threads, processes or machines of a synchronous program.

    with Member("a", peers=ADDRESSES, listen=ADDRESSES["a"], authkey=SECRET, data_dir="/var/lib/app") as member:
        with member.leadership(timeout=None) as leadership:     # wait until this member leads, and resign at the end
            while not leadership.lost.wait(1.0):
                work(leadership.token)

Begin with `Member`, one participant: its connections, its votes and its election together. It hands out `Leadership`,
one grant with a token, and `Status`, what it knows. `Timing` are its settings that are times. `FencingGate` refuses
what a former leader writes late; `raftlite.pool` elects among the workers of a pool; the command `raftlite` does all of
it without a program.

Beneath lies `ElectionThread`, a closed loop: messages go into its inbox, events come out. A `Node` is how it sends to
one peer (`QueueNode`, `ConnectionNode`, or yours), a `Storage` is where it keeps its votes. `Election` are the rules,
without clock, thread or socket. `raftlite.simulation` runs many of them on a virtual clock.

Errors are `RaftliteError`; a wait that runs out of time raises the builtin `TimeoutError`. Times are seconds.
"""

__version__ = "0.1.0"

TYPE_CHECKING = False
if TYPE_CHECKING:
    from raftlite.public import *  # noqa: F403  # for checkers alone
    from raftlite.public import __all__ as __all__
else:

    def __getattr__(name):
        """Import everything when anything is asked for: until then, Ctrl-C is still the command's own affair."""
        import raftlite.public as public

        names = globals()
        names.update({each: getattr(public, each) for each in public.__all__}, __all__=public.__all__)
        if name in names:
            return names[name]
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    def __dir__():
        return sorted({*globals(), *__getattr__("__all__")})
