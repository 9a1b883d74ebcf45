"""Database connections are few, threads are many: who waits for something else holds none."""

from django.db import connection


def give_back() -> None:
    """Return this thread's connection to the pool before a wait; the next query takes one again.

    Without a pool (SQLite, processes of one thread) it is kept: opening one costs more than keeping it.
    """
    if "pool" in connection.settings_dict["OPTIONS"] and not connection.in_atomic_block:
        connection.close()
