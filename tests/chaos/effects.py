"""Every effect on a job that could be the final one, logged by the database itself in a table that only grows.

A trigger sees what no look at the row can tell: a result that was written twice, even if with the same value.
"""

import sqlite3
from contextlib import closing
from dataclasses import dataclass
from uuid import UUID

import psycopg

from inference_portal.jobs.states import FINAL

_FINAL = f"({', '.join(repr(state.value) for state in sorted(FINAL))})"
# For an update of anything else, such as a note that the end was announced, the triggers don't fire at all.
# Nor is it an effect that a result is let go of: of a fire and forget, and when it is old.
_LET_GO = "OLD.state = NEW.state AND OLD.result IS NOT NULL AND NEW.result IS NULL"
_SEEN = f"(OLD.state IN {_FINAL} OR NEW.state IN {_FINAL} OR NEW.result IS NOT NULL) AND NOT ({_LET_GO})"

POSTGRESQL = f"""
CREATE TABLE IF NOT EXISTS chaos_effect (
    number bigserial PRIMARY KEY,
    job uuid NOT NULL,
    attempt int NOT NULL,
    old_state text NOT NULL,
    new_state text NOT NULL,
    written double precision NOT NULL,
    transaction bigint NOT NULL DEFAULT txid_current()
);
CREATE OR REPLACE FUNCTION chaos_log() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO chaos_effect (job, attempt, old_state, new_state, written)
    VALUES (NEW.id, NEW.attempt, CASE TG_OP WHEN 'INSERT' THEN '' ELSE OLD.state END, NEW.state,
            extract(epoch FROM clock_timestamp()));
    RETURN NULL;
EXCEPTION WHEN OTHERS THEN
    -- The system's own write goes on; the checker reports a final row without its effect.
    RAISE WARNING 'effect not logged: %', SQLERRM;
    RETURN NULL;
END $$;
CREATE OR REPLACE TRIGGER chaos_update AFTER UPDATE OF state, result ON jobs_job
    FOR EACH ROW WHEN ({_SEEN}) EXECUTE FUNCTION chaos_log();
CREATE OR REPLACE TRIGGER chaos_insert AFTER INSERT ON jobs_job
    FOR EACH ROW WHEN (NEW.state IN {_FINAL} OR NEW.result IS NOT NULL) EXECUTE FUNCTION chaos_log();
"""

_SQLITE_INSERT = """
BEGIN
    INSERT INTO chaos_effect (job, attempt, old_state, new_state, written)
    VALUES (NEW.id, NEW.attempt, {old}, NEW.state, (julianday('now') - 2440587.5) * 86400.0);
END;
"""
SQLITE = f"""
CREATE TABLE IF NOT EXISTS chaos_effect (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    job TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    old_state TEXT NOT NULL,
    new_state TEXT NOT NULL,
    written REAL NOT NULL
);
CREATE TRIGGER IF NOT EXISTS chaos_update AFTER UPDATE OF state, result ON jobs_job
    FOR EACH ROW WHEN {_SEEN} {_SQLITE_INSERT.format(old="OLD.state")}
CREATE TRIGGER IF NOT EXISTS chaos_insert AFTER INSERT ON jobs_job
    FOR EACH ROW WHEN NEW.state IN {_FINAL} OR NEW.result IS NOT NULL {_SQLITE_INSERT.format(old="''")}
"""


@dataclass(frozen=True, slots=True)
class Effect:
    """One write to a job's final state or result; `written` is the database's clock (epoch) at that moment."""

    job: UUID
    attempt: int
    old_state: str
    new_state: str
    written: float

    @property
    def reopens(self) -> bool:
        """Tell whether it is no end but the way out of one: a rerun."""
        return self.old_state in FINAL and self.new_state not in FINAL


def install(database_url: str) -> None:
    """Create table and triggers in the system's database (an address of PostgreSQL, else a SQLite file)."""
    if database_url.startswith("postgres"):
        with psycopg.connect(database_url, autocommit=True) as connection:
            connection.execute(POSTGRESQL)
    else:
        with closing(sqlite3.connect(database_url, timeout=20)) as connection:
            connection.executescript(SQLITE)
