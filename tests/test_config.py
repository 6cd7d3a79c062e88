"""`--config raftlite.toml`: the same file on every machine; what is wrong in it is named, with what to do."""

from __future__ import annotations

import json
import os
import signal
import sys
from argparse import Namespace

import pytest

from raftlite.cli import main
from raftlite.command.config import read_config
from raftlite.command.options import AUTHKEY_VARIABLE, authkey_from, settings_from
from raftlite.errors import ConfigError
from raftlite.timing import Timing

COMMAND = "import sys; from raftlite.cli import main; sys.exit(main())"
WHOLE = """
cluster = "beat"
data_dir = "votes"
authkey_file = "/etc/beat/authkey"
min_nodes = 2
max_nodes = 5
witnesses = ["c"]
observers = ["d"]

[members]
a = "10.0.0.1:7600"
b = "10.0.0.2:7600"
c = "10.0.0.3:7600"
d = "10.0.0.4:7600"

[timing]
heartbeat_interval = 0.25
election_timeout = 2
trust_refused = false

[tls]
cert = "cert.pem"
key = "key.pem"
ca = "/etc/ca.pem"

[run]
grace = 5
on_exit = "resign"
"""
MEMBERS = '[members]\na = "h:1"\nb = "h:2"\nc = "h:3"\n'


@pytest.fixture
def write(tmp_path):
    """Write a configuration; return its path."""

    def write(text):
        path = tmp_path / "raftlite.toml"
        path.write_text(text)
        return str(path)

    return write


@pytest.fixture
def options(monkeypatch):
    """What the parser of `raftlite node` makes of the arguments."""
    monkeypatch.setenv(AUTHKEY_VARIABLE, "key")

    def parse(*arguments):
        from raftlite.cli import _parser

        return _parser().parse_args(["node", *map(str, arguments)])

    return parse


def test_a_file_holds_everything_that_members_share(write, tmp_path):
    """Relative paths begin at the file, wherever the command is started."""
    config = read_config(write(WHOLE))
    assert config.top == {
        "cluster": "beat",
        "data_dir": str(tmp_path / "votes"),
        "authkey_file": "/etc/beat/authkey",
        "min_nodes": 2,
        "max_nodes": 5,
        "witnesses": ["c"],
        "observers": ["d"],
    }
    assert config.members == {node_id: f"10.0.0.{number}:7600" for number, node_id in enumerate("abcd", 1)}
    assert config.timing == {"heartbeat_interval": 0.25, "election_timeout": 2, "trust_refused": False}
    assert config.tls == {"cert": str(tmp_path / "cert.pem"), "key": str(tmp_path / "key.pem"), "ca": "/etc/ca.pem"}
    assert config.run == {"grace": 5, "on_exit": "resign"}


def test_the_id_says_which_of_the_members_this_is(write, options):
    """And thereby where it listens and who its peers are."""
    path = write(WHOLE.partition("[tls]")[0])
    settings = settings_from(options("--config", path, "--id", "b"))
    assert (settings.node_id, settings.listen, settings.advertise) == ("b", "10.0.0.2:7600", None)
    assert settings.peers == {"a": "10.0.0.1:7600", "c": "10.0.0.3:7600", "d": "10.0.0.4:7600"}
    assert (settings.cluster, settings.min_nodes, settings.max_nodes) == ("beat", 2, 5)
    assert (settings.witnesses, settings.observers, settings.voter) == (["c"], ["d"], True)
    assert settings.timing == Timing(heartbeat_interval=0.25, election_timeout=2, trust_refused=False)


def test_sockets_are_looked_for_beside_the_file(write, options, tmp_path):
    """As everything else with a relative path: members may be started from different folders."""
    path = write('[members]\na = "./a.sock"\nb = "unix:b.sock"\nc = "/run/c.sock"\nd = "h:1"\n')
    settings = settings_from(options("--config", path, "--id", "a"))
    assert settings.listen == str(tmp_path / "a.sock")
    assert settings.peers == {"b": str(tmp_path / "b.sock"), "c": "/run/c.sock", "d": "h:1"}


def test_sockets_may_be_named_from_the_folder_that_the_command_is_started_in(write, options, tmp_path, monkeypatch):
    """The settings go through the member's own checks, for which a path has a slash."""
    write('[members]\na = "./a.sock"\nb = "unix:b.sock"\n')
    monkeypatch.chdir(tmp_path)
    member = settings_from(options("--config", "raftlite.toml", "--id", "a")).member()
    assert (member.listen, member.peers) == ("./a.sock", {"b": "./b.sock"})


def test_who_observes_is_said_to_all_members(write, options):
    """One that only says so itself would be a voter for the others, and might lead."""
    path = write(f"observers = ['c']\n{MEMBERS}")
    assert not settings_from(options("--config", path, "--id", "c")).voter
    assert not settings_from(options("--config", path, "--id", "c", "--observer")).voter
    for node_id in "ac":
        member = settings_from(options("--config", path, "--id", node_id)).member()
        assert member._observers == {"c"}
    with pytest.raises(ConfigError, match=r"--observer: for the other members of .*, b is a voter: name it in its obs"):
        settings_from(options("--config", path, "--id", "b", "--observer"))


def test_options_win_over_the_file(write, options):
    """One by one; a member that listens elsewhere is still known to the others by the file's address."""
    path = write(WHOLE.partition("[tls]")[0])
    given = ("--listen", "0.0.0.0:7600", "--peer", "c=10.9.9.9:1", "--peer", "d=h:4", "--cluster", "other")
    more = ("--data-dir", "/elsewhere", "--election-timeout", "3", "--min-nodes", "3", "--witness", "b")
    settings = settings_from(options("--config", path, "--id", "a", *given, *more))
    assert (settings.listen, settings.advertise) == ("0.0.0.0:7600", "10.0.0.1:7600")
    assert settings.peers == {"b": "10.0.0.2:7600", "c": "10.9.9.9:1", "d": "h:4"}
    assert (settings.cluster, settings.data_dir) == ("other", "/elsewhere")
    assert (settings.min_nodes, settings.max_nodes, settings.witnesses) == (3, 5, ["b"])
    assert settings.timing == Timing(heartbeat_interval=0.25, election_timeout=3.0, trust_refused=False)


def test_the_key_is_taken_from_the_option_then_the_variable_then_the_file(write, options, tmp_path, monkeypatch):
    """The nearest to the process counts."""
    (tmp_path / "key").write_text("of the file\n")
    (tmp_path / "other").write_text("of the option")
    path = write('authkey_file = "key"\n' + MEMBERS)
    assert settings_from(options("--config", path, "--id", "a")).authkey == b"key"
    other = options("--config", path, "--id", "a", "--authkey-file", tmp_path / "other")
    assert settings_from(other).authkey == b"of the option"
    monkeypatch.delenv(AUTHKEY_VARIABLE)
    assert settings_from(options("--config", path, "--id", "a")).authkey == b"of the file"


WRONG = [
    ("", "[members] is missing: name each member and its address there, as in"),
    ("[members]\n", "[members] is missing"),
    ("members = 3\n", "members is 3, but must be a table: begin it with [...] on a line of its own"),
    ("[members]\na = 7600\n", "members.a is 7600, but must be an address: write it as "),
    ('[members]\na = "7600"\n', "members.a is '7600', but must be 'host:port'"),
    ('[members]\n"" = "h:1"\n', "node id is '', but must be"),
    ('min_nodes = "2"\n', "min_nodes is '2', but must be a whole number from 1: write it without quotes"),
    ("min_nodes = 0\n", "min_nodes is 0, but must be a whole number from 1"),
    ("max_nodes = true\n", "max_nodes is True, but must be a whole number from 1"),
    ("witnesses = 'c'\n", "witnesses is 'c', but must be a list of ids"),
    (f"witnesses = ['x']\n{MEMBERS}", "witnesses names 'x', but [members] has only a, b, c"),
    (f"observers = ['x']\n{MEMBERS}", "observers names 'x', but [members] has only a, b, c"),
    ("cluster = 3\n", "cluster is 3, but must be a text: write it as"),
    ('data_dir = ""\n', "data_dir is '', but must be the path of a file or folder"),
    ("[timing]\nelection_timeout = '1'\n", "timing.election_timeout is '1', but must be a number: write it without"),
    ("[timing]\nelection_timeout = 0\n", "election_timeout is 0, but must be a number from 0.001 to"),
    ("[timing]\ntrust_refused = 1\n", "timing.trust_refused is 1, but must be true or false"),
    ("[timing]\nelectoin_timeout = 1\n", "timing.electoin_timeout is no setting: did you mean election_timeout?"),
    ("election_timeout = 1\n", "election_timeout is no setting: it belongs into [timing]"),
    ("[timing]\ndata_dir = '/x'\n", "timing.data_dir is no setting: it belongs to the top, before the first table"),
    ("zzz = 1\n", "zzz is no setting: there are authkey_file, cluster,"),
    ("[run]\non_exit = 'again'\n", "run.on_exit is 'again', but must be one of"),
    ("[run]\non_exit = ['stop']\n", "run.on_exit is ['stop'], but must be one of"),
    ("[run]\ngrace = -1\n", "run.grace is -1, but must be a number of seconds from 0 to 86400"),
    ("[run]\ngrace = nan\n", "run.grace is nan, but must be a number of seconds from 0 to 86400"),
    ("[tls]\ncert = 1\n", "tls.cert is 1, but must be the path of a file or folder"),
    ("cluster = \n", "is no TOML: "),
    ("cluster = 'a'\ncluster = 'b'\n", "is no TOML: "),
]


def test_the_end_of_the_line_is_no_part_of_the_key(monkeypatch, tmp_path):
    """`openssl rand -hex 32 > authkey` ends with one, and so does many a variable that was read from there."""
    (tmp_path / "key").write_text("secret\n")
    monkeypatch.setenv(AUTHKEY_VARIABLE, "secret\n")
    assert authkey_from(Namespace(authkey_file=None), None) == b"secret"
    assert authkey_from(Namespace(authkey_file=str(tmp_path / "key")), None) == b"secret"


def test_times_are_judged_together_with_the_options(write, options):
    """What is too long a pause for the file's own timeout may fit the one that is given."""
    path = write(f"[timing]\nheartbeat_interval = 0.8\n{MEMBERS}")
    with pytest.raises(ConfigError, match=r"raftlite.toml: heartbeat_interval is 0.8, but must be at most half of"):
        settings_from(options("--config", path, "--id", "a"))
    settings = settings_from(options("--config", path, "--id", "a", "--election-timeout", "10", "--no-trust-refused"))
    assert settings.timing == Timing(heartbeat_interval=0.8, election_timeout=10.0, trust_refused=False)


def test_a_file_of_certificates_may_be_given_alone(write, options, monkeypatch):
    """The others are those of `[tls]`; where one is missing everywhere, both places are named."""
    monkeypatch.setattr("raftlite.command.options.tls_context", lambda **files: files)
    whole = write(f"{MEMBERS}[tls]\ncert = '/cert'\nkey = '/key'\nca = '/ca'\n")
    settings = settings_from(options("--config", whole, "--id", "a", "--cert", "new.pem"))
    assert settings.tls == {"cert": "new.pem", "key": "/key", "ca": "/ca"}
    half = write(f"{MEMBERS}[tls]\ncert = '/cert'\n")
    with pytest.raises(SystemExit):
        settings_from(options("--config", half, "--id", "a"))


@pytest.mark.skipif(os.name == "nt", reason="variables are text there")
def test_the_key_in_the_variable_may_be_any_bytes(monkeypatch):
    monkeypatch.setenv(AUTHKEY_VARIABLE, os.fsdecode(b"\xff\xfe secret"))
    assert authkey_from(Namespace(authkey_file=None), None) == b"\xff\xfe secret"


@pytest.mark.parametrize("text, sentence", WRONG, ids=[text.strip() or "nothing" for text, _ in WRONG])
def test_what_is_wrong_is_named_with_the_file_and_what_to_do(write, capsys, monkeypatch, text, sentence):
    """EX_CONFIG and one line."""
    monkeypatch.setenv(AUTHKEY_VARIABLE, "key")
    text += "" if "members" in sentence or "node id" in sentence else MEMBERS
    path = write(text)
    for command in (["node"], ["run", "--", "true"]):
        assert main([command[0], "--config", path, "--id", "a", *command[1:]]) == 78
        said = capsys.readouterr().err
        assert said.startswith(f"raftlite {command[0]}: {path}")
        assert sentence in said
        assert said.count("\n") == 1


@pytest.mark.parametrize("name", ["authkey", "secret", "password"])
def test_a_secret_in_the_file_is_refused_and_not_repeated(write, name):
    """The file is on every machine and in version control."""
    with pytest.raises(ConfigError, match="put the secret into a file of its own and") as refusal:
        read_config(write(f"{name} = 'abracadabra'\n{MEMBERS}"))
    assert "abracadabra" not in str(refusal.value)


def test_an_id_that_the_file_does_not_know_is_refused(write, options):
    """A typing error, or a member that the file lacks."""
    with pytest.raises(ConfigError, match=r"raftlite.toml: \[members\] has no 'd', only a, b, c: add it there, or"):
        settings_from(options("--config", write(MEMBERS), "--id", "d"))


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    """Missing, a folder, or no text at all."""
    with pytest.raises(ConfigError, match=r"x\.toml cannot be read: No such file or directory"):
        read_config(str(tmp_path / "x.toml"))
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        read_config(str(tmp_path))
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="binary is no TOML: "):
        read_config(str(tmp_path / "binary"))


def test_a_python_that_cannot_read_toml_says_which_extra_to_install(write, monkeypatch):
    """Before 3.11 there is no tomllib."""
    monkeypatch.setitem(sys.modules, "tomllib", None)
    monkeypatch.setitem(sys.modules, "tomli", None)
    with pytest.raises(ConfigError, match=r"needs Python 3\.11 or newer: pip install 'raftlite\[toml\]'"):
        read_config(write(MEMBERS))


def test_without_a_file_the_address_is_needed(capsys):
    """EX_USAGE, as for whatever else is missing."""
    for command in (["node"], ["run", "--", "true"]):
        with pytest.raises(SystemExit) as end:
            main([command[0], "--id", "a", *command[1:]])
        assert end.value.code == 64
        assert "--listen, or --config" in capsys.readouterr().err


@pytest.mark.slow
def test_members_with_one_file_elect_a_leader(write, start_child, tmp_path, monkeypatch):
    """As processes: two of three are enough."""
    monkeypatch.delenv(AUTHKEY_VARIABLE, raising=False)
    (tmp_path / "key").write_text("secret")
    members = "".join(f'{name} = "{tmp_path}/{name}"\n' for name in "abc")
    path = write(f'authkey_file = "key"\n[members]\n{members}[timing]\nelection_timeout = 0.5\n')
    nodes = [start_child(COMMAND, "node", "--config", path, "--id", name, "--json") for name in "ab"]
    for node in nodes:
        event = json.loads(node.read_line())
        while event["leader"] is None:
            event = json.loads(node.read_line())
        assert event["leader"] in "ab"
    for node in nodes:
        node.send_signal(signal.SIGTERM)
        assert node.wait() == 0
    assert not os.path.exists(tmp_path / "a")
