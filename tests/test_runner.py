"""`raftlite run`: the command runs on the leader and nowhere else, whatever it does and whatever is done to it.

Commands that must never meet take the same lock without waiting, and write down that they could not. What holds the
lock is every process of a command together, so that a lock taken shows the one before to be gone.
"""

from __future__ import annotations

import fcntl
import json
import os
import pty
import signal
import subprocess
import sys
import termios
import textwrap
from dataclasses import replace
from pathlib import Path

import pytest
from children import environment
from threads import PATIENCE, Clock, eventually

from raftlite import Leadership, Role, Status
from raftlite.cli import main
from raftlite.clock import boot_clock
from raftlite.command.printer import LeaderlessLog
from raftlite.command.signals import SignalQueue
from raftlite.membership import founding_membership
from raftlite.nodes.request import ask_member
from raftlite.runner import Plan, Runner
from raftlite.timing import Timing

KEY = "the secret that all members share"
PLAIN = "import sys; from raftlite.cli import main; sys.exit(main())"
LOYAL = ("--heartbeat-interval", 0.05, "--election-timeout", 600)  # no lease runs out while the test runs
SHORT = ("--election-timeout", 0.4)  # for those in which one has to
linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="what Linux alone can do")


@pytest.fixture(autouse=True)
def key(monkeypatch):
    monkeypatch.setenv("RAFTLITE_AUTHKEY", KEY)


class Wrapper:
    """`raftlite run` as a process. What it says and what its command prints go to files."""

    def __init__(self, folder, node_id, options, command, source=PLAIN, **popen):
        self.node_id = node_id
        self.folder = folder
        self._said, self._printed = folder / f"{node_id}.err", folder / f"{node_id}.out"
        arguments = ["run", "--json", "--id", node_id, "--listen", folder / f"{node_id}.sock", *options, "--", *command]
        with open(self._said, "ab") as err, open(self._printed, "ab") as out:
            popen = {"stdin": subprocess.DEVNULL, "stdout": out, "stderr": err, **popen}
            program = [sys.executable, "-c", textwrap.dedent(source), *map(str, arguments)]
            self.popen = subprocess.Popen(program, env=environment(), **popen)
        self.pid = self.popen.pid

    @property
    def said(self):
        return self._said.read_text()

    @property
    def printed(self):
        return self._printed.read_text()

    def events(self, name=None):
        """What it has said of itself, leaving out what was logged."""
        lines = [line for line in self.said.splitlines(keepends=True) if line.startswith("{") and line.endswith("\n")]
        events = [json.loads(line) for line in lines]
        return [event for event in events if name in (None, event["event"])]

    def await_event(self, name, count=1):
        return eventually(lambda: self.events(name)[count - 1 :], f"{name} {count} times:\n{self.said}")[-1]

    def await_line(self, line):
        eventually(lambda: line in self.printed.splitlines(), f"printing {line!r}: {self.printed!r}")

    def running(self):
        """The pid of the command."""
        return self.await_event("running")["pid"]

    def guardian(self):
        return next(pid for pid, parent, _ in processes() if parent == self.pid)

    def send(self, number):
        self.popen.send_signal(number)

    def wait(self):
        return self.popen.wait(PATIENCE)

    def end(self):
        if self.popen.poll() is None:
            self.send(signal.SIGCONT)
            self.popen.kill()
            self.popen.wait()


def processes():
    """(pid, parent, state) of every process."""
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            fields = Path(f"/proc/{name}/stat").read_text(errors="replace").rpartition(")")[2].split()
        except OSError:
            continue
        yield int(name), int(fields[1]), fields[0]


def longest_pause_until(look, what):
    """Wait until `look` finds something; return for how long this process was not run meanwhile, at the longest."""
    looks = [boot_clock()]

    def look_once():
        looks.append(boot_clock())
        return look()

    eventually(look_once, what)
    return max(later - earlier for earlier, later in zip(looks, looks[1:]))


def is_gone(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def is_dead(pid):
    """Gone, or waiting until whoever is its parent now looks at it."""
    return is_gone(pid) or ("Z" in [state for each, _, state in processes() if each == pid])


@pytest.fixture
def start(tmp_path):
    """Start `raftlite run` as a cluster of one, or with the given options."""
    wrappers = []

    def start(*command, options=("--min-nodes", 1), node_id="a", **more):
        where = ("--data-dir", tmp_path / f"{node_id}.votes")
        wrappers.append(Wrapper(tmp_path, node_id, [*where, *LOYAL, *options], command, **more))
        return wrappers[-1]

    yield start
    for wrapper in wrappers:
        wrapper.end()
    eventually(lambda: not left_of(tmp_path), f"the end of everything: {left_of(tmp_path)}")


def left_of(folder):
    """The processes that know the folder: their arguments or their output name it."""
    found = []
    for pid, _, state in processes():
        try:
            arguments = Path(f"/proc/{pid}/cmdline").read_bytes()
            outputs = [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in (1, 2)]
        except OSError:
            continue
        texts = (*outputs, os.fsdecode(arguments))
        if pid != os.getpid() and state != "Z" and any(str(folder) in text for text in texts):
            found.append((pid, texts))
    return found


def python(source):
    return sys.executable, "-S", "-c", textwrap.dedent(source)


DEAF = ("sh", "-c", "trap '' TERM; echo ready; while :; do sleep 0.01; done")


def answering(*names, code=0):
    """A command that prints the signals which it hears, and ends with TERM."""
    return python(
        f"""
        import os, signal
        def hear(number, frame):
            print(signal.Signals(number).name, flush=True)
            if number == signal.SIGTERM:
                os._exit({code})
        for name in {names}:
            signal.signal(getattr(signal, "SIG" + name), hear)
        print("ready", flush=True)
        while True:
            signal.pause()
        """
    )


# --- One member -----------------------------------------------------------------------------------


def test_the_command_finds_its_token_and_not_the_key(start):
    """The key admits to the cluster; the command's logs and crash reports may show its variables."""
    wrapper = start("sh", "-c", "env; echo ready; exec sleep 100")
    wrapper.await_line("ready")
    variables = dict(line.split("=", 1) for line in wrapper.printed.splitlines() if "=" in line)
    assert variables["RAFTLITE_NODE_ID"] == "a"
    token = str(wrapper.await_event("elected")["token"])
    assert (variables["RAFTLITE_TOKEN"], variables["RAFTLITE_TERM"]) == (token, token)
    assert "RAFTLITE_AUTHKEY" not in variables
    assert KEY not in wrapper.printed
    assert KEY.encode() not in Path(f"/proc/{wrapper.guardian()}/environ").read_bytes()


BUSY = "the election was not run for"  # what is rightly said where the machine has other things to do


@pytest.mark.parametrize("number, code", [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_a_wrapper_that_is_told_to_end_takes_the_command_with_it(start, number, code):
    """Whatever runs services, and Ctrl-C. The command hears TERM, and the wrapper says nothing but its lines."""
    wrapper = start(*answering("TERM"))
    wrapper.await_line("ready")
    wrapper.await_event("leader")
    pid = wrapper.running()
    wrapper.send(number)
    assert wrapper.wait() == code
    assert is_gone(pid)
    wrapper.await_line("SIGTERM")
    names = [event["event"] for event in wrapper.events()]
    assert names[-5:] == ["ending", "ended", "lost", "leader", "stopped"], names
    others = [line for line in wrapper.said.splitlines() if not line.startswith("{")]
    assert [line for line in others if BUSY not in line] == []


@pytest.mark.slow
def test_the_code_of_a_command_that_answers_term_in_its_own_way_is_passed_on(start):
    """One that dies of it has done as it was told; one that could not clean up says so."""
    wrapper = start(*answering("TERM", code=7))
    wrapper.await_line("ready")
    wrapper.send(signal.SIGTERM)
    assert wrapper.wait() == 7


@pytest.mark.slow
@pytest.mark.parametrize("script, code", [("exit 0", 0), ("exit 3", 3), ("kill -KILL $$", 137), ("kill -TERM $$", 143)])
def test_with_on_exit_stop_the_code_of_the_command_is_passed_on(start, script, code):
    """128+N for a signal, as shells do it."""
    wrapper = start("sh", "-c", script, options=("--min-nodes", 1, "--on-exit", "stop"))
    assert wrapper.wait() == code
    assert wrapper.await_event("ended")["code"] == code


def test_a_command_that_ignores_term_is_killed_after_the_grace(start):
    """And the code says so."""
    wrapper = start(*DEAF, options=("--min-nodes", 1, "--grace", 0.1))
    wrapper.await_line("ready")
    wrapper.send(signal.SIGTERM)
    assert wrapper.wait() == 137
    ended = wrapper.await_event("ended")
    assert (ended["killed"], ended["why"]) == (True, "stop")


def test_a_second_signal_ends_the_wrapper_and_the_command_at_once(start):
    """Nobody needs to wait for the end of the grace."""
    wrapper = start(*DEAF)
    wrapper.await_line("ready")
    wrapper.running()  # the command may print before the wrapper says that it runs, and the second signal ends that
    wrapper.send(signal.SIGTERM)
    wrapper.await_event("ending")
    wrapper.send(signal.SIGTERM)
    assert wrapper.wait() == -signal.SIGTERM
    eventually(lambda: is_gone(wrapper.running()), "the end of the command")


FORKS_AWAY = """
    import os, signal, sys, time
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    first, (reader, writer) = os.getpid(), os.pipe()
    if os.fork() == 0:
        os.setpgid(0, 0)
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                print("away", os.getpid(), flush=True)
                os.write(writer, b"x")
        else:
            os._exit(0)
    {then}
    time.sleep(100)
"""
ENDS_THEN = "if os.getpid() == first: os.read(reader, 1); os._exit(5)"  # once the last fork has printed


def pids_away(wrapper):
    eventually(lambda: wrapper.printed.endswith("\n"), "forks")
    return [int(line.split()[1]) for line in wrapper.printed.splitlines()]


@pytest.mark.slow
@linux
@pytest.mark.parametrize("end", ["stop", "exit", "kill -9"])
def test_nothing_is_left_of_a_command_that_forks_away(start, end):
    """Into groups and sessions of its own, deaf to TERM; told to end, ended by itself, or its wrapper killed."""
    source = FORKS_AWAY.format(then=ENDS_THEN if end == "exit" else "")
    wrapper = start(*python(source), options=("--min-nodes", 1, "--grace", 0.1, "--on-exit", "stop"))
    pids = pids_away(wrapper)
    assert pids
    if end == "stop":
        wrapper.send(signal.SIGTERM)
    elif end == "kill -9":
        wrapper.popen.kill()
    assert wrapper.wait() == {"stop": 137, "exit": 5, "kill -9": -9}[end]
    if end == "kill -9":
        eventually(lambda: all(map(is_gone, pids)), "the end of everything")
    assert all(map(is_gone, pids))
    assert ("left behind" in wrapper.said) == (end == "exit")


@pytest.mark.parametrize("option, kind", [(("--witness", "a"), "a witness"), (("--observer",), "an observer")])
def test_a_member_that_never_leads_is_told_that_its_command_would_never_run(start, option, kind):
    """The same settings serve every machine; where nothing is to run, `raftlite node` votes."""
    wrapper = start("true", options=("--peer", "b=127.0.0.1:1", *option))
    assert wrapper.wait() == 78
    assert f"a is {kind}, which never leads" in wrapper.said
    assert "start raftlite node instead" in wrapper.said


@linux
def test_a_command_whose_guardian_is_killed_dies_with_it(start):
    """Nobody could end it in time any more."""
    wrapper = start("sh", "-c", "sleep 100 & echo $!; setsid sleep 100 & echo $!; wait")
    pid = wrapper.running()
    of_command = eventually(lambda: wrapper.printed.split()[1:] and wrapper.printed.split(), "its two processes")
    os.kill(wrapper.guardian(), signal.SIGKILL)
    assert wrapper.wait() == 70
    assert all(map(is_gone, (pid, *map(int, of_command))))
    assert wrapper.events("unguarded")


@linux
def test_a_command_dies_with_its_guardian_while_the_wrapper_is_stopped(start):
    """The system does it."""
    wrapper = start("sleep", "100")
    pid, guardian = wrapper.running(), wrapper.guardian()
    wrapper.send(signal.SIGSTOP)
    os.kill(guardian, signal.SIGKILL)
    eventually(lambda: is_dead(pid), "the end of the command")


@pytest.mark.slow
@linux
def test_a_command_whose_guardian_is_stopped_is_killed_by_the_wrapper(start, monkeypatch):
    """Two processes look at the time, and each of them can end it."""
    source = f"import raftlite.runner; raftlite.runner.PATIENCE = 0.05; {PLAIN}"
    wrapper = start("sleep", "100", options=("--min-nodes", 1, "--grace", 0.05), source=source)
    pid = wrapper.running()
    os.kill(wrapper.guardian(), signal.SIGSTOP)
    wrapper.send(signal.SIGTERM)
    assert wrapper.wait() == 137
    assert is_gone(pid)
    (ended,) = wrapper.events("ended")
    assert (ended["why"], ended["killed"]) == ("stop", True)  # the guardian may see no more than that it has ended


GUARDIAN_THAT_IS_STOPPED = """
    import pathlib, sys
    import raftlite.command.guardian_process as r
    r.PATIENCE = 0.05
    text = r.GUARDIAN.read_text()
    r.GUARDIAN = pathlib.Path(sys.argv[sys.argv.index("--data-dir") + 1] + "-guardian.py")
    rule = 'if do == "start":'
    stopped = f"if do == 'start' and not os.path.exists({str(r.GUARDIAN) + '-stopped'!r}):\\n"
    stopped += f"            open({str(r.GUARDIAN) + '-stopped'!r}, 'w').close()\\n"
    stopped += f"            os.kill(os.getpid(), signal.SIGSTOP)\\n        {rule}"
    assert rule in text
    r.GUARDIAN.write_text(text.replace(rule, stopped))
    from raftlite.cli import main
    sys.exit(main())
"""


def stopped_guardian(wrapper):
    """The pid, once it has read the first request to start the command, and was stopped then."""
    return eventually(lambda: [pid for pid, parent, s in processes() if parent == wrapper.pid and s == "T"], "stop")[0]


@pytest.mark.slow
@linux
def test_a_command_is_not_started_by_a_guardian_that_goes_on_when_the_lease_is_over(start):
    """Another member may lead by then. Under the next lease it is started at once."""
    command = ("sh", "-c", "echo $RAFTLITE_TOKEN; exec sleep 100")
    wrapper = start(*command, options=("--min-nodes", 1, *SHORT), source=GUARDIAN_THAT_IS_STOPPED)
    guardian, first = stopped_guardian(wrapper), wrapper.await_event("elected")
    wrapper.send(signal.SIGSTOP)
    over_at = boot_clock() + 0.4
    eventually(lambda: boot_clock() >= over_at, "the end of the lease")
    os.kill(guardian, signal.SIGCONT)
    wrapper.send(signal.SIGCONT)
    second = wrapper.await_event("elected", 2)
    wrapper.running()
    wrapper.send(signal.SIGTERM)
    assert wrapper.wait() == 0
    events = wrapper.events()
    assert "running" not in [event["event"] for event in events[: events.index(second)]]
    assert str(first["token"]) not in wrapper.printed.split()


@pytest.mark.slow
@linux
def test_a_wrapper_ends_though_its_guardian_was_stopped_before_it_started_the_command(start):
    """There is no command yet that could be killed, and nothing to wait for."""
    wrapper = start("sleep", "100", options=("--min-nodes", 1, "--grace", 0.05), source=GUARDIAN_THAT_IS_STOPPED)
    stopped_guardian(wrapper)
    wrapper.send(signal.SIGTERM)
    assert wrapper.wait() == 0
    assert not wrapper.events("running")


@pytest.mark.slow
def test_other_signals_are_passed_to_the_command(start):
    """HUP has daemons read their settings again."""
    wrapper = start(*answering("HUP", "USR1", "USR2", "WINCH", "TERM"))
    wrapper.await_line("ready")
    for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGWINCH):
        wrapper.send(number)
        wrapper.await_line(number.name)
    wrapper.send(signal.SIGTERM)
    assert wrapper.wait() == 0


def test_a_follower_survives_the_signals_that_it_would_pass_on(start):
    """There is nobody to hear them."""
    wrapper = start("true", options=("--min-nodes", 2))
    wrapper.await_event("started")
    for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGWINCH):
        wrapper.send(number)
    wrapper.send(signal.SIGTERM)
    assert wrapper.wait() == 0
    assert wrapper.events("stopped")


@pytest.mark.slow
def test_the_command_has_the_input_and_the_outputs_of_the_wrapper(start, tmp_path):
    """Nothing is copied, however many gigabytes it prints."""
    with open("/dev/zero") as zero, open(os.devnull, "w") as null:
        wrapper = start("cat", stdin=zero, stdout=null)
        pid = wrapper.running()
        places = [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in (0, 1, 2)]
        assert places == ["/dev/zero", "/dev/null", f"{tmp_path}/a.err"]
        counters = Path(f"/proc/{pid}/io")
        eventually(lambda: int(counters.read_text().split()[3]) > 1e9, "a gigabyte")
        wrapper.send(signal.SIGTERM)
        assert wrapper.wait() == 0


@pytest.mark.slow
def test_the_command_gets_no_descriptor_of_the_member(start, tmp_path):
    """Neither its sockets nor its votes, nor the guardian's copy; but what the wrapper was given on purpose."""
    reader, writer = os.pipe()
    script = "ls -l /proc/self/fd >&2; echo ready"
    try:
        wrapper = start("sh", "-c", script, options=("--min-nodes", 1, "--on-exit", "stop"), pass_fds=(writer,))
        assert wrapper.wait() == 0
    finally:
        os.close(reader)
        os.close(writer)
    links = [line.split(" ")[-3:] for line in wrapper.said.splitlines() if " -> " in line]
    targets = {int(number): target for number, _, target in links}
    assert targets[writer].startswith("pipe:")
    assert {fd for fd, target in targets.items() if "/proc/" not in target} == {0, 1, 2, writer}


@pytest.mark.slow
def test_a_command_that_ends_is_started_again_after_a_growing_pause(start):
    """One that crashes at once must not keep a core busy. Whoever has run for the longest pause is forgiven."""
    source = f"import raftlite.runner as r; r.SHORTEST_PAUSE, r.LONGEST_PAUSE = 0.4, 1.6; {PLAIN}"
    wrapper = start("sh", "-c", "echo $RAFTLITE_TOKEN", source=source)
    wrapper.await_event("ended", 5)
    assert [event["seconds"] for event in wrapper.events("pausing")[:4]] == [0.4, 0.8, 1.6, 1.6]
    assert len(set(wrapper.printed.split())) == 1
    wrapper.send(signal.SIGTERM)
    assert wrapper.wait() == 0


@pytest.mark.parametrize("kind, code", [("missing", 127), ("nowhere", 127), ("not executable", 126), ("folder", 126)])
def test_a_command_that_cannot_be_run_is_refused_before_the_member_takes_part(capfd, tmp_path, kind, code):
    """It would lead and do nothing. A sentence, and the codes of shells."""
    names = {"missing": "no-such-command", "nowhere": str(tmp_path / "x"), "folder": str(tmp_path)}
    plain = tmp_path / "plain"
    plain.write_text("")
    name = names.get(kind, str(plain))
    options = ["--id", "a", "--listen", str(tmp_path / "a.sock"), "--min-nodes", "1"]
    assert main(["run", *options, "--", name]) == code
    said = capfd.readouterr().err
    assert said == f"raftlite run: {name} cannot be run: {'not found' if code == 127 else 'it is not executable'}\n"


@pytest.mark.slow
@pytest.mark.parametrize("kind, code", [("removed", 127), ("no format", 126)])
def test_a_command_that_cannot_be_run_any_more_ends_the_wrapper(start, tmp_path, kind, code):
    """Another member may lead then, where it can be run."""
    command = tmp_path / "command"
    command.write_text("#!/bin/sh\nrm $0\n" if kind == "removed" else "\0\1\2")
    command.chmod(0o755)
    source = f"import raftlite.runner; raftlite.runner.SHORTEST_PAUSE = 0.01; {PLAIN}"
    wrapper = start(command, source=source)
    assert wrapper.wait() == code
    assert wrapper.events("no_command")[0]["command"] == str(command)


def test_the_command_is_not_optional(capsys, tmp_path):
    """EX_USAGE"""
    for rest in ([], ["--"]):
        with pytest.raises(SystemExit) as end:
            main(["run", "--id", "a", "--listen", str(tmp_path / "a.sock"), *rest])
        assert end.value.code == 64
        assert "the command is missing: write it after --" in capsys.readouterr().err


@pytest.mark.parametrize("grace", ["-1", "nan", "1e9"])
def test_a_grace_out_of_bounds_is_refused(capsys, tmp_path, grace):
    """EX_CONFIG"""
    assert main(["run", "--id", "a", "--listen", str(tmp_path / "a.sock"), "--grace", grace, "--", "true"]) == 78
    assert "--grace is " in capsys.readouterr().err


@pytest.mark.parametrize("grace", [0.0, 0.1, 1.0, 1e4])
@pytest.mark.parametrize("timeout", [0.002, 0.15, 1.0, 10.0, 86_400.0])
@pytest.mark.parametrize("part", [0.01, 0.1, 0.5])
def test_an_ending_fits_into_the_lease_and_no_heartbeat_that_comes_in_time_begins_one(grace, timeout, part):
    """Between TERM and KILL there is time, after KILL there is time, and a lease renewed in time stays above both."""
    timing = Timing(election_timeout=timeout, heartbeat_interval=max(0.001, timeout * part))
    plan = Plan.of(grace, timing)
    lease = timing.election_timeout * (1 - timing.clock_drift)
    assert 0 < plan.margin <= plan.reserve
    assert plan.reserve < lease - timing.heartbeat_interval
    assert plan.reserve - plan.margin <= grace


@pytest.mark.slow
def test_a_lease_that_is_too_short_for_a_command_is_told(start):
    """Where other members promise less than this one; it would otherwise lead and do nothing, and not say why."""
    source = f"import raftlite.runner as r; r.Plan.of = lambda grace, timing: r.Plan(grace, 1000.0, 0.1); {PLAIN}"
    wrapper = start("true", options=("--min-nodes", 1, *SHORT), source=source)
    eventually(lambda: "election_timeout must be the same on every member" in wrapper.said, "a warning")
    assert not wrapper.events("running")
    wrapper.send(signal.SIGTERM)
    assert wrapper.wait() == 0


# --- At a terminal --------------------------------------------------------------------------------


@pytest.fixture
def terminal(start):
    """Start a wrapper whose terminal is a new one; its other end is returned too."""
    ours, theirs = pty.openpty()
    left = [ours]

    def take_terminal():
        os.setsid()
        fcntl.ioctl(theirs, termios.TIOCSCTTY, 0)

    def begin(*command):
        wrapper = start(*command, stdin=theirs, preexec_fn=take_terminal)
        os.close(theirs)
        return wrapper, lambda: os.close(left.pop())

    yield begin, ours
    for each in left:
        os.close(each)


def test_ctrl_c_at_a_terminal_is_heard_by_the_wrapper_alone(terminal):
    """The command is not of the foreground, and hears TERM."""
    begin, keyboard = terminal
    wrapper, _ = begin(*answering("INT", "TERM"))
    wrapper.await_line("ready")
    sessions = {os.getsid(pid) for pid in (wrapper.pid, wrapper.guardian(), wrapper.running())}
    assert len(sessions) == 3  # Ctrl-Z must not stop the guardian
    os.write(keyboard, b"\x03")
    assert wrapper.wait() == 130
    assert wrapper.printed.split() == ["ready", "SIGTERM"]


def test_a_terminal_that_is_closed_ends_a_run(terminal):
    """There, HUP means what it meant first."""
    begin, _ = terminal
    wrapper, hang_up = begin(*answering("HUP", "TERM"))
    wrapper.await_line("ready")
    hang_up()
    assert wrapper.wait() == 0
    assert wrapper.await_event("ending")["signal"] == "SIGHUP"


# --- Three members --------------------------------------------------------------------------------

ALONE = """
    import fcntl, os, signal, sys, time
    folder, takes = sys.argv[1], float(sys.argv[2])
    def note(what):
        with open(f"{folder}/notes", "a") as notes:
            notes.write(f"{what} {os.environ['RAFTLITE_NODE_ID']} {os.environ['RAFTLITE_TOKEN']}\\n")
    def end(number, frame):
        time.sleep(takes)
        note("end")
        os._exit(0)
    signal.signal(signal.SIGTERM, end)
    lock = os.open(f"{folder}/lock", os.O_CREAT | os.O_RDWR)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        note("overlap")
        os._exit(1)
    note("begin")
    while len(sys.argv) < 4:
        time.sleep(1)
"""


class Trio:
    """Three wrappers whose commands must never meet."""

    def __init__(self, start, folder, takes=0.0, options=(), source=PLAIN, then=()):
        self.notes_file = folder / "notes"
        self.notes_file.touch()
        self.addresses = addresses = {node_id: folder / f"{node_id}.sock" for node_id in "abc"}

        def begin(node_id):
            peers = [part for peer, at in addresses.items() if peer != node_id for part in ("--peer", f"{peer}={at}")]
            command = (*python(ALONE), folder, takes, *then)
            return start(*command, node_id=node_id, options=(*SHORT, *peers, *options), source=source)

        self.begin = begin
        self.wrappers = {node_id: begin(node_id) for node_id in addresses}

    @property
    def notes(self):
        return [line.split() for line in self.notes_file.read_text().splitlines(keepends=True) if line[-1] == "\n"]

    def begun(self, count):
        """The wrapper whose command began as the given one, once it has."""
        begins = eventually(lambda: self._begins()[count - 1 :], f"{count} beginnings: {self.notes}")
        return self.wrappers[begins[0][1]]

    def await_whole(self):
        """Until each of them knows who leads, and is connected to both of the others."""
        eventually(lambda: all(map(self._is_whole, self.wrappers)), "connections between all, who know who leads")

    def _is_whole(self, node_id):
        try:
            status = ask_member(self.addresses[node_id], KEY.encode(), "raftlite", PATIENCE, "status")
        except OSError:
            return False  # it does not listen yet
        return status["leader"] is not None and not status["unreachable"]

    def _begins(self):
        return [note for note in self.notes if note[0] == "begin"]

    def check(self):
        assert not [note for note in self.notes if note[0] == "overlap"], self.notes
        tokens = [int(token) for _, _, token in self._begins()]
        assert tokens == sorted(tokens)

    def stop(self):
        for wrapper in self.wrappers.values():
            if wrapper.popen.poll() is None:
                wrapper.send(signal.SIGCONT)
                wrapper.send(signal.SIGTERM)
        codes = [wrapper.wait() for wrapper in self.wrappers.values()]
        self.check()
        return codes


SLOW_GUARDIAN = """
    import pathlib, sys, tempfile
    import raftlite.command.guardian_process as r
    text = r.GUARDIAN.read_text()
    rule = "if self._is_orphan:\\n            self._signal"
    slow = text.replace(rule, rule.replace("self._signal", "time.sleep(0.1); self._signal"))
    assert slow != text
    r.GUARDIAN = pathlib.Path(sys.argv[sys.argv.index("--data-dir") + 1] + "-guardian.py")
    r.GUARDIAN.write_text(slow)
    from raftlite.cli import main
    sys.exit(main())
"""


def test_the_command_moves_to_another_member_and_never_runs_twice(start, tmp_path, capfd):
    """kill -9 of the wrapper, however long its command then lives; a transfer; SIGTERM. No lease runs out meanwhile.

    Where two collide in the first election, or a restarted member keeps its promise, that ends with a timeout.
    """
    trio = Trio(start, tmp_path, takes=0.1, options=("--election-timeout", PATIENCE / 4), source=SLOW_GUARDIAN)
    first = trio.begun(1)
    trio.await_whole()
    first.popen.kill()
    second = trio.begun(2)
    assert second is not first
    trio.check()
    assert main(["transfer", str(tmp_path / f"{second.node_id}.sock")]) == 0
    third = trio.begun(3)
    assert third is not second
    assert ["end", second.node_id] in [note[:2] for note in trio.notes]
    assert second.await_event("ended")["why"] in ("stop", "lease")  # whichever this machine is quicker with
    trio.wrappers[first.node_id] = trio.begin(first.node_id)
    trio.await_whole()
    third.send(signal.SIGTERM)
    assert third.wait() == 0
    trio.begun(4)
    assert trio.stop() == [0, 0, 0]


@pytest.mark.slow
def test_a_takeover_waits_for_a_command_that_takes_longer_than_a_lease(start, tmp_path):
    """The wrapper goes on leading until its command is gone, and hands over then."""
    trio = Trio(start, tmp_path, takes=3.0, options=("--grace", 20, "--election-timeout", 3))
    first = trio.begun(1)
    first.send(signal.SIGTERM)
    trio.begun(2)
    assert [note[0] for note in trio.notes[:3]] == ["begin", "end", "begin"]
    assert first.wait() == 0
    assert first.await_event("ended")["killed"] is False
    trio.stop()


class Led:
    """What the runner needs of a member that leads."""

    node_id = "a"
    known = Status("a", Role.LEADER, 1, "a", founding_membership("a", []), 1)

    def on_elected(self, callback):
        pass

    def on_lost(self, callback):
        pass

    def status(self):
        return self.known


def test_a_lead_that_comes_and_goes_quickly_is_no_time_without_a_leader(caplog):
    """While the command runs nobody looks, and yet somebody leads."""
    clock, grant = Clock(), Leadership("a", 1, 1e9, lambda: 0.0)
    runner = Runner(Led(), Timing(), ["true"], Plan(0, 0, 0), "restart", None, SignalQueue())
    runner._leaderless = LeaderlessLog(1.0, clock)
    for _ in range(10):
        runner._leaderless.look(replace(Led.known, leader_id=None, why="?"))
        clock.now += 0.6
        runner._elected(grant)
        clock.now += 0.3
    assert not caplog.records


@pytest.mark.slow
def test_the_command_of_a_stopped_wrapper_is_gone_before_another_begins(start, tmp_path):
    """SIGSTOP: the guardian knows until when the lease holds. On waking the wrapper follows."""
    trio = Trio(start, tmp_path, takes=20.0, options=("--election-timeout", 3))
    first = trio.begun(1)
    first.send(signal.SIGSTOP)
    second = trio.begun(2)
    assert second is not first
    first.send(signal.SIGCONT)
    ended = first.await_event("ended")
    assert (ended["why"], ended["killed"]) == ("lease", True)
    eventually(lambda: first.events()[-1]["leader"] == second.node_id, "following the other")
    assert not first.events("stopped")
    assert "too short" not in first.said and "no leader for" not in first.said
    trio.wrappers = {second.node_id: second, **trio.wrappers}
    second.popen.kill()
    trio.stop()


def test_a_leader_that_is_cut_off_ends_its_command_within_the_lease(start, tmp_path):
    """Nobody else leads either: it must not wait to hear of it."""
    # The command is killed half a second before the end, not 41 ms: on a busy machine, that is less than a turn.
    trio = Trio(start, tmp_path, takes=20.0, options=("--election-timeout", 4))
    first = trio.begun(1)
    others = [wrapper for wrapper in trio.wrappers.values() if wrapper is not first]
    for other in others:
        other.send(signal.SIGSTOP)
    stood_still = longest_pause_until(lambda: first.events("lost") and first.events("ended"), "lost and ended")
    ended, lost = first.await_event("ended"), first.await_event("lost")
    assert (ended["why"], ended["killed"]) == ("lease", True)
    assert ended["clock"] < lost["clock"] + stood_still  # while the whole machine does, nobody can end it
    for other in others:
        other.send(signal.SIGCONT)
    trio.begun(2).popen.kill()
    trio.stop()


@pytest.mark.slow
def test_with_on_exit_resign_every_member_has_a_try(start, tmp_path):
    """What fails on one machine may do on another."""
    trio = Trio(start, tmp_path, options=("--on-exit", "resign", "--election-timeout", 3), then=("exit",))
    eventually(lambda: {note[1] for note in trio.notes} == {"a", "b", "c"}, "a try of each")
    assert trio.stop() == [0, 0, 0]


@pytest.mark.slow
def test_a_wrapper_that_is_removed_ends_its_command_and_itself(start, tmp_path, capfd):
    """It hands over first."""
    trio = Trio(start, tmp_path, options=("--election-timeout", 3))
    first = trio.begun(1)
    assert main(["remove", str(tmp_path / f"{first.node_id}.sock"), first.node_id]) == 0
    trio.begun(2)
    assert first.wait() == 0
    assert first.events()[-1]["event"] == "removed"
    trio.stop()


@pytest.mark.slow
def test_through_many_kills_stops_and_transfers_no_two_commands_meet(start, tmp_path, capfd):
    """Guardians that are slow, commands that take their time.

    A machine that stands still for a whole lease could let two meet: nobody is there to end the first in time.
    """
    trio = Trio(start, tmp_path, takes=0.05, options=("--election-timeout", 1.5), source=SLOW_GUARDIAN)
    for turn in range(1, 16):
        count = len(trio._begins()) or 1
        leader = trio.begun(count)
        if turn % 4 == 0:
            leader.popen.kill()
            leader.wait()
            # It may have had no time to say what it runs; but the command and its guardian have its outputs.
            eventually(lambda leader=leader: not left_of(f"{tmp_path}/{leader.node_id}.err"), "the end of both")
            trio.wrappers[leader.node_id] = trio.begin(leader.node_id)
        elif turn % 4 == 1:
            leader.send(signal.SIGSTOP)
            trio.begun(count + 1)
            leader.send(signal.SIGCONT)
            continue
        elif turn % 4 == 2:
            main(["transfer", str(tmp_path / f"{leader.node_id}.sock")])
        else:
            leader.send(signal.SIGTERM)
            leader.wait()
            trio.wrappers[leader.node_id] = trio.begin(leader.node_id)
        trio.begun(count + 1)
        trio.check()
    trio.stop()
