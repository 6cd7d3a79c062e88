"""What people install: the wheel holds the whole package, needs nothing beside it, and its command works."""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

# Building asks the package index for setuptools, which may take its time.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

TOP = Path(__file__).resolve().parent.parent
BIN = "Scripts" if os.name == "nt" else "bin"


def run(*command, cwd):
    """The output of a command that sees neither this checkout nor any variable of the Python that runs the tests."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(
        command,
        cwd=cwd,
        env=clean,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, f"{command} ended with status {done.returncode}:\n{done.stdout}"
    return done.stdout


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """An empty virtual environment."""
    directory = tmp_path_factory.mktemp("empty") / "environment"
    run(sys.executable, "-m", "venv", directory, cwd=directory.parent)
    return directory


@pytest.fixture(scope="module")
def wheel(environment, tmp_path_factory):
    """The wheel, built from a copy of the sources so that no earlier build/ can slip into it."""
    sources = tmp_path_factory.mktemp("sources")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(TOP / name, sources)
    shutil.copytree(TOP / "raftlite", sources / "raftlite", ignore=shutil.ignore_patterns("__pycache__", ".*"))
    run(environment / BIN / "python", "-m", "pip", "wheel", "--no-deps", "--wheel-dir", "dist", ".", cwd=sources)
    (built,) = sources.glob("dist/*.whl")
    return built


@pytest.fixture(scope="module")
def installed(environment, wheel):
    """The environment with the wheel in it, and the names of what came with it."""

    def packages():
        listed = run(environment / BIN / "python", "-m", "pip", "list", "--format", "json", cwd=environment)
        return {package["name"] for package in json.loads(listed)}

    before = packages()
    run(environment / BIN / "python", "-m", "pip", "install", wheel, cwd=environment)
    return environment, packages() - before


def test_wheel_holds_every_file_of_the_package(wheel):
    sources = wheel.parent.parent
    package = {path.relative_to(sources).as_posix() for path in sources.glob("raftlite/**/*") if path.is_file()}
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {name for name in names if ".dist-info/" not in name} == package
    assert any(name.endswith("LICENSE") for name in names)


def test_wheel_brings_nothing_else(installed):
    _, came_with_it = installed
    assert came_with_it == {"raftlite"}


@pytest.mark.parametrize("program, arguments", [("raftlite", []), ("python", ["-m", "raftlite"])])
def test_installed_command_says_how_to_use_it(installed, program, arguments, tmp_path):
    environment, _ = installed
    assert "demo" in run(environment / BIN / program, *arguments, "--help", cwd=tmp_path)


def test_installed_command_runs_the_demo(installed, tmp_path):
    environment, _ = installed
    run(environment / BIN / "raftlite", "demo", cwd=tmp_path)


SHOW_PAGE = """
import urllib.request
from raftlite.lab import Lab
from raftlite.lab.server import serve
from raftlite.lab.session import Session

with Session(lambda **settings: Lab(backend="virtual", **settings)) as session:
    session.fresh()
    with serve(session) as page:
        for name in ("", "static/app.js", "static/theme.css", "scenes"):
            print(urllib.request.urlopen(page.url + name).read().decode())
"""


def test_installed_lab_has_its_page_and_its_scenes(installed, tmp_path):
    environment, _ = installed
    served = run(environment / BIN / "python", "-c", SHOW_PAGE, cwd=tmp_path)
    assert "<!doctype html>" in served and "class App" in served and "--leader" in served and "cold-start" in served
    assert "split-vote" in run(environment / BIN / "raftlite", "lab", "--scene", "list", cwd=tmp_path)
