"""Database connections are few, threads are many: who waits for something else holds none."""

from typing import Any, cast

from django.db import connection


def give_back() -> None:
    """Return this thread's connection to the pool before a wait; the next query takes one again.

    Without a pool (SQLite, processes of one thread) it is kept: opening one costs more than keeping it.
    """
    if "pool" in connection.settings_dict["OPTIONS"] and not connection.in_atomic_block:
        connection.close()


def let_go() -> None:
    """Give up this thread's connection before a long wait, whatever kind it is.

    One to SQLite is two open files and its cache: 500 waiters that kept theirs had 1,011 files open. Opening it again
    costs 0.6 ms, which is why `give_back` keeps it.
    """
    if not connection.in_atomic_block:
        connection.close()


def replace_broken() -> None:
    """After a database error, look at the pool's other connections and replace those that are dead too.

    So a restart of the server costs the first request an error, not one request for each connection. Looking at each
    connection before each use instead would take a third of the portal's CPU time.
    """
    if "pool" in connection.settings_dict["OPTIONS"]:
        connection.close()
        cast(Any, connection).pool.check()
