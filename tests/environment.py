"""Makes a virtual environment with raftlite and one of its extras in it, or leaves it alone when it is up to date.

    python3 tests/environment.py .venv test

The Python that runs this file is the one inside the environment, and raftlite is installed editable. Notes inside the
environment say what it was made of; where a note no longer holds, the work is done again. Standard library only.
"""

import os
import subprocess
import sys
from pathlib import Path

TOP = Path(__file__).resolve().parent.parent
OLDEST_PYTHON = (3, 9)
OLDEST_PIP = "pip>=22.1"  # the first that takes such settings
BY_PATH = "editable_mode=compat"  # else each Python that a test starts takes longer, to look for raftlite


def main():
    if len(sys.argv) != 3:
        sys.exit("usage: python3 tests/environment.py DIRECTORY EXTRA")
    refuse_unsuitable_python()
    provide_environment(Path(sys.argv[1]).absolute(), extra=sys.argv[2])


def refuse_unsuitable_python():
    this = "{} is Python {}.{}.{}".format(sys.executable, *sys.version_info[:3])
    if sys.version_info[:2] < OLDEST_PYTHON:
        sys.exit(f"raftlite needs Python 3.9 or newer, but {this}. Name a newer one: make PYTHON=python3.12 ...")
    try:
        import ensurepip  # noqa: F401
        import venv  # noqa: F401
    except ImportError:
        sys.exit(
            f"{this} without the venv and ensurepip modules, which make the environment for the tests. On Debian and "
            "Ubuntu they come with `apt-get install python3-venv`; or name another Python: make PYTHON=python3.12 ..."
        )


def provide_environment(environment, extra):
    made_of = f"{sys.version}\n{sys.base_prefix}\n{TOP}\n"
    installed = made_of + (TOP / "pyproject.toml").read_text(encoding="utf-8")
    made_note = environment / "made-of.txt"
    installed_note = environment / f"installed-{extra}.txt"
    if not holds(made_note, made_of) or not python_in(environment).exists():
        make(environment)
        made_note.write_text(made_of, encoding="utf-8")
    if not holds(installed_note, installed):
        install(environment, extra)
        installed_note.write_text(installed, encoding="utf-8")


def holds(note, text):
    return note.exists() and note.read_text(encoding="utf-8") == text


def python_in(environment):
    return environment / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def make(environment):
    print("Making {} with Python {}.{}.{}".format(environment.name, *sys.version_info[:3]), flush=True)
    run([sys.executable, "-m", "venv", "--clear", environment], "Python could not make the virtual environment.")


def install(environment, extra):
    print(f"Installing raftlite[{extra}] in {environment.name}", flush=True)
    # Python compiles what is imported when it is; most of what comes with the packages never is.
    pip_install = [python_in(environment), "-m", "pip", "install", "--no-compile", "--quiet"]
    pip_install += ["--disable-pip-version-check"]
    what_failed = "pip could not install what is needed; its message is above. `make demo` works without a network."
    run([*pip_install, OLDEST_PIP], what_failed)
    run([*pip_install, "--config-settings", BY_PATH, "--editable", f".[{extra}]"], what_failed)


def run(command, what_failed):
    if subprocess.run(command, cwd=TOP, stdin=subprocess.DEVNULL).returncode != 0:
        sys.exit(what_failed)


if __name__ == "__main__":
    main()
