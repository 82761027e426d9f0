"""SQLite (and, where several machines share a store, PostgreSQL): connections, errors, migrations. It knows no tables.

  sqlite.py     connect: one way to open a file, with every pragma explained; transaction
  reader.py     Reader: questions asked of a database without waiting; tells when answers may have changed
  errors.py     StorageFull, StorageUnavailable and its kinds: what the database's own errors mean to the rest of the house
  migrate.py    migrate: brings a file to the newest schema of its branch; nothing to do costs under 2 ms
  upgrade.py    the steps of a branch run by Alembic; the only module that imports SQLAlchemy, and only when there is work
  migrations/   the scripts, one folder per branch: directory, queue

Invariants:
- SQL is plain text, written once with `:name` parameters, in the room that owns the tables. It keeps to what SQLite and
  PostgreSQL both understand: no `INSERT OR`, no `rowid`, `ON CONFLICT` and `RETURNING` instead; truth values are
  compared with a parameter or read with `bool`.
- A connection commits only when `transaction` ends; outside of one each statement is its own transaction.
- Workers never import sqlalchemy or alembic: a process that only reads and writes mail stays small.
"""
