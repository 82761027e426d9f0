"""The schema's history: one folder of scripts per branch, run by `gatepost.storage.migrate`.

  directory/   domains, accounts, credentials, forwards
  queue/       messages and jobs waiting

A branch is a line of versions of its own. Each SQLite file holds one branch; a PostgreSQL database may hold both, and its
version table (`alembic_version`) then has one row for each.

A script is a module named `NNNN_what.py`, counted from 0001 within its folder without a gap, and holds:

    revision = "queue_0002"              # branch, underscore, the number in the file name
    down_revision = "queue_0001"         # None in 0001
    branch_labels = ("queue",)           # in 0001 only; None in all others
    depends_on = None

    def upgrade() -> None:
        op.create_table("job", sa.Column(...), ...)   # from alembic import op; import sqlalchemy as sa

The number is what `migrate` compares without importing Alembic, so it must agree with `revision`; a test looks. Scripts
only go up: a newer file is refused by an older Gatepost, and the way back is the backup. They run in one transaction
with foreign keys off, and are written with types both databases have: `sa.Text`, `sa.Boolean`, `sa.Integer` (SQLite makes a
primary key of that type its row ID), `sa.BigInteger` where more than 31 bits must fit in PostgreSQL,
`sa.Double`, `sa.LargeBinary`. A table is changed with `op.batch_alter_table`, since SQLite cannot alter much in place.
"""
