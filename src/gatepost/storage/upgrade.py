"""The steps of a branch, run by Alembic without an ini file or an env.py. Imported only when there is work to do.

`upgrade` takes any SQLAlchemy connection that is in a transaction, so it serves whichever database is behind it;
`upgrade_sqlite` is how a file gets there.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import sqlalchemy
from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy.pool import StaticPool

from gatepost.storage.migrate import BRANCHES, MIGRATIONS, Branch, is_current


def scripts() -> ScriptDirectory:
    """All branches."""
    return ScriptDirectory(str(MIGRATIONS), version_locations=[str(MIGRATIONS / branch) for branch in BRANCHES])


def upgrade(connection: sqlalchemy.Connection, branch: Branch) -> None:
    """Run the missing steps of `branch`. The caller holds a lock that keeps others from doing the same, and commits."""
    script = scripts()

    def missing_steps(current: Any, _: MigrationContext) -> Any:
        return script._upgrade_revs(f"{branch}@head", current)  # what alembic.command.upgrade does

    # Alembic takes it that SQLite cannot roll back a CREATE TABLE. It can, once the driver leaves BEGIN to us.
    context = MigrationContext.configure(connection, opts={"fn": missing_steps, "transactional_ddl": True})
    with Operations.context(context):
        context.run_migrations()


def upgrade_sqlite(raw: sqlite3.Connection, path: Path | str, branch: Branch) -> None:
    """Bring the file behind `raw` up to date, all or nothing. Raises sqlite3.Error, SchemaMismatch."""
    # Rebuilding a table drops the old one, which would delete what refers to it. No effect within a transaction.
    raw.execute("PRAGMA foreign_keys = OFF")
    engine = sqlalchemy.create_engine("sqlite://", creator=lambda: raw, poolclass=StaticPool)
    sqlalchemy.event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))
    try:
        with engine.begin() as connection:
            if is_current(raw, path, branch):  # another process did it while we waited for the lock
                return
            upgrade(connection, branch)
            if raw.execute("PRAGMA foreign_key_check").fetchone() is not None:
                raise sqlite3.IntegrityError(f"{path}: migration of {branch} left broken references")
    except sqlalchemy.exc.DBAPIError as error:
        if isinstance(error.orig, sqlite3.Error):
            raise error.orig from error
        raise
    finally:
        engine.dispose()
