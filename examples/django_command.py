"""A Django management command that may be started on every server, and works on one of them at a time.

    pip install django
    python examples/django_command.py runleader a   # one per terminal: a, b and c; end or kill the one that works

This is a whole project in one file. In yours, the class goes to APP/management/commands/runleader.py, what is above
it to settings.py, and `manage.py runleader NAME` is what systemd restarts on each server. For several servers, give
`host:port` as their addresses and a secret of your own.
"""

import contextlib
import os
import signal
import sys

import django
from django.conf import settings
from django.core.management.base import BaseCommand
from django.db import close_old_connections

from raftlite import Member

FOLDER = ".raftlite-data"  # sockets and votes

settings.configure(
    RAFTLITE={
        "peers": {name: f"{FOLDER}/{name}.sock" for name in ("a", "b", "c")},
        "authkey": "classroom",
        "data_dir": FOLDER,
    },
)


class Command(BaseCommand):
    help = "Sends the reminders that are due, from one server at a time"

    def add_arguments(self, parser):
        parser.add_argument("name", choices=settings.RAFTLITE["peers"])

    def handle(self, name, **options):
        signal.signal(signal.SIGTERM, lambda *_: sys.exit())  # systemd's way to end it: hand over first
        listen = settings.RAFTLITE["peers"][name]
        with contextlib.suppress(KeyboardInterrupt), Member(name, listen=listen, **settings.RAFTLITE) as member:
            self.stdout.write(f"{name} follows {member.wait_for_leader()}")
            member.run(self.send_reminders)

    def send_reminders(self, leadership):
        while not leadership.lost.wait(1):
            close_old_connections()  # as Django does before each request
            send_what_is_due(leadership)


def send_what_is_due(leadership):
    print(f"{leadership.node_id} (pid {os.getpid()}) sends reminders, token {leadership.token}", flush=True)


if __name__ == "__main__":
    django.setup()
    Command().run_from_argv(sys.argv)
