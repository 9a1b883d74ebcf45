"""Gives the role that the services use its password and its rights on the data: `python deploy/database_roles.py`.

Run as the owner after `migrate`, and safe to repeat. DATABASE_URL(_FILE) is the owner's, APP_DATABASE_URL(_FILE) the
role's. The role reads and writes rows and can neither create nor change nor drop a table.
"""

from urllib.parse import unquote, urlsplit

import psycopg
from psycopg import sql

from workers.config import secret

STATEMENTS = (
    "REVOKE ALL ON DATABASE {database} FROM PUBLIC",
    "REVOKE CREATE ON SCHEMA public FROM PUBLIC",
    "GRANT CONNECT ON DATABASE {database} TO {role}",
    "GRANT USAGE ON SCHEMA public TO {role}",
    "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {role}",
    "GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA public TO {role}",
)


def grant(owner_url: str, role_url: str) -> str:
    """Create the role if it is missing, set its password, grant its rights; return its name. Raises psycopg.Error."""
    wanted = urlsplit(role_url)
    name, password = unquote(wanted.username or ""), unquote(wanted.password or "")
    with psycopg.connect(owner_url) as connection:
        if connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [name]).fetchone() is None:
            connection.execute(sql.SQL("CREATE ROLE {}").format(sql.Identifier(name)))
        # Hashed here: a password in a statement could end in the server's log.
        hashed = connection.pgconn.encrypt_password(password.encode(), name.encode(), b"scram-sha-256").decode()
        alter = "ALTER ROLE {} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE PASSWORD {}"
        connection.execute(sql.SQL(alter).format(sql.Identifier(name), sql.Literal(hashed)))
        names = {"database": sql.Identifier(connection.info.dbname), "role": sql.Identifier(name)}
        for statement in STATEMENTS:
            connection.execute(sql.SQL(statement).format(**names))
    return name


def main() -> None:
    """Grant with the addresses of the environment."""
    print(f"database role {grant(secret('DATABASE_URL'), secret('APP_DATABASE_URL'))} may read and write rows")


if __name__ == "__main__":
    main()
