"""message, job, shard."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "queue_0001"
down_revision = None
branch_labels = ("queue",)
depends_on = None

# 63 bits in both databases; SQLite makes a primary key its row ID only where the type is INTEGER.
QUEUE_NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Make the tables.

    A message lives for milliseconds as a rule: its rows are inserted, and deleted with one of the next commits. So each
    table is one B-tree that grows at its right end, and the only index holds none of the jobs that are still active.
    There are no foreign keys: they would cost two more look-ups per message and say what each transaction sees to anyway.
    """
    op.create_table(
        "message",
        sa.Column("number", QUEUE_NUMBER, primary_key=True, autoincrement=False),  # behind the queue ID
        sa.Column("sender", sa.Text, nullable=False),  # '' for the null sender
        sa.Column("recipients", sa.Text, nullable=False),  # those the sender named, JSON
        sa.Column("eight_bit", sa.Boolean, nullable=False),
        sa.Column("smtputf8", sa.Boolean, nullable=False),
        sa.Column("ret", sa.Text, nullable=False),
        sa.Column("envid", sa.Text, nullable=False),
        sa.Column("arrived_at", sa.Double, nullable=False),
        sa.Column("is_bounce", sa.Boolean, nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),  # bytes
        sa.Column("header_size", sa.Integer, nullable=False),  # so many bytes of `content` are the header block
        sa.Column("in_file", sa.Boolean, nullable=False),
        # All of it; only the header block where the rest is in a file. Last, so that a reader of the facts skips it.
        sa.Column("content", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "job",
        sa.Column("message", QUEUE_NUMBER, primary_key=True, autoincrement=False),
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("recipient", sa.Text, nullable=False),
        sa.Column("original", sa.Text, nullable=False),
        sa.Column("notify", sa.Text, nullable=False),  # "FAILURE,DELAY"
        sa.Column("orcpt", sa.Text, nullable=False),
        sa.Column("route", sa.Text, nullable=False),  # "smtp:[127.0.0.1]:2526"
        sa.Column("state", sa.Text, nullable=False),  # active, waiting, hold
        sa.Column("next_attempt_at", sa.Double, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False, server_default=sa.text("0")),
        sa.Column("last_reason", sa.Text, nullable=False, server_default=""),
        sa.Column("last_status", sa.Text, nullable=False, server_default=""),
        sa.Column("delay_warned", sa.Boolean, nullable=False, server_default=sa.false()),
        sqlite_with_rowid=False,  # the key is the table: one B-tree instead of two
    )
    op.create_index(
        "job_due",
        "job",
        ["next_attempt_at"],
        sqlite_where=sa.text("state = 'waiting'"),
        postgresql_where=sa.text("state = 'waiting'"),
    )
    op.create_table(
        "shard",
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("last_number", sa.BigInteger, nullable=False),  # no queue number up to here is given again
    )
