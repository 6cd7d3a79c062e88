"""Makes the environment of the benchmark, with raftlite's `bench` extra and every peer that can be installed.

    python3 tests/benchmarks/peers/environment.py .cache/bench

What cannot be installed is left out, and the reason is noted in `left-out.json` of the environment, from where it gets
into the tables. etcd is a program: where it is not installed and this is a Debian, its package is unpacked inside the
environment. ZooKeeper is used where the system has it, Java included. Standard library only.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))

import environment  # of tests/: how environments are made here

ZOOKEEPER_JAR = Path("/usr/share/java/zookeeper.jar")

# What pip is given for each peer, in this order.
PACKAGES = {
    "PySyncObj": [["pysyncobj"]],
    "pyraft": [["pyraft"]],
    "kazoo": [["kazoo"]],
    # It names releases of its dependencies that no longer build, and is built with a part of setuptools that is gone.
    "raftos": [
        ["setuptools<81", "wheel", "cryptography"],
        ["--no-build-isolation", "--no-deps", "msgpack-python==0.4.8", "raftos"],
    ],
}


def main():
    if len(sys.argv) != 2:
        sys.exit("usage: python3 tests/benchmarks/peers/environment.py DIRECTORY")
    environment.refuse_unsuitable_python()
    place = Path(sys.argv[1]).absolute()
    place.parent.mkdir(parents=True, exist_ok=True)
    environment.provide_environment(place, extra="bench")
    note = place / "peers.txt"
    made_of = sys.version + Path(__file__).read_text(encoding="utf-8")
    if not environment.holds(note, made_of):
        left_out = {**install_packages(environment.python_in(place)), **provide_etcd(place)}
        (place / "left-out.json").write_text(json.dumps(left_out), encoding="utf-8")
        note.write_text(made_of, encoding="utf-8")
        for peer, reason in left_out.items():
            print(f"{peer} is left out: {reason}", flush=True)


def install_packages(python):
    """Return which peers could not be installed, and why."""
    failed = {}
    for peer, steps in PACKAGES.items():
        print(f"Installing {peer}", flush=True)
        for packages in steps:
            pip_install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *packages]
            reason = why_it_fails(pip_install)
            if reason:
                failed[peer] = (
                    f"pip cannot install it with Python {sys.version_info[0]}.{sys.version_info[1]}: {reason}"
                )
                break
    return failed


def provide_etcd(place):
    """Return why there is no etcd, if there is none."""
    if shutil.which("etcd"):
        return {}
    if not shutil.which("apt-get") or not shutil.which("dpkg-deb"):
        return {"etcd": "it is not installed, and this is no Debian, whose package would be used"}
    print("Unpacking Debian's etcd-server", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        reason = why_it_fails(["apt-get", "download", "etcd-server"], folder)
        if reason and hasattr(os, "geteuid") and os.geteuid() == 0:
            reason = why_it_fails(["apt-get", "update"], folder)
            reason = reason or why_it_fails(["apt-get", "download", "etcd-server"], folder)
        for package in Path(folder).glob("*.deb"):
            reason = why_it_fails(["dpkg-deb", "--extract", package, place / "debian"], folder)
    return {"etcd": f"it is not installed, and Debian's package cannot be had: {reason}"} if reason else {}


def why_it_fails(command, folder=None):
    """Run `command` without its output; return the last line that it says on an error, or nothing if it succeeds."""
    done = subprocess.run(
        command, cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    if done.returncode == 0:
        return ""
    said = [line.strip() for line in done.stdout.splitlines() if line.strip() and not line.startswith("WARNING")]
    return next(
        (line for line in reversed(said) if line.lower().startswith(("error", "e: "))),
        said[-1] if said else "it says nothing",
    )[:200]


if __name__ == "__main__":
    main()
