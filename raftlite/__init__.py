"""raftlite elects one leader among the threads, processes or machines of a synchronous program."""

__version__ = "0.1.0"

TYPE_CHECKING = False
if TYPE_CHECKING:
    from raftlite.public import *  # noqa: F403
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
