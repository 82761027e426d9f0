"""domain, account, credential, forward, forward_target."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "directory_0001"
down_revision = None
branch_labels = ("directory",)
depends_on = None


def upgrade() -> None:
    """Make the tables. A `key` is what look-ups ask for: the whole address in lower case."""
    op.create_table(
        "domain",
        sa.Column("id", sa.Integer, primary_key=True),  # the lowest is the first domain
        sa.Column("name", sa.Text, nullable=False, unique=True),  # A-labels, lower case
        sa.Column("active", sa.Boolean, nullable=False),
    )
    op.create_table(
        "account",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("domain_id", sa.Integer, sa.ForeignKey("domain.id", ondelete="CASCADE"), nullable=False),
        sa.Column("local", sa.Text, nullable=False),  # as spelt when it was added, without quotes
        sa.Column("key", sa.Text, nullable=False, unique=True),
        sa.Column("has_mailbox", sa.Boolean, nullable=False),
        sa.Column("active", sa.Boolean, nullable=False),
    )
    op.create_index("account_by_domain", "account", ["domain_id"])
    op.create_table(
        "credential",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("account_id", sa.Integer, sa.ForeignKey("account.id", ondelete="CASCADE"), nullable=False),
        sa.Column("kind", sa.Text, nullable=False),  # 'password'
        sa.Column("label", sa.Text, nullable=False),  # '' for the account's own; tells several of one kind apart
        sa.Column("stored", sa.Text, nullable=False),  # $argon2id$…
        sa.UniqueConstraint("account_id", "kind", "label"),
    )
    op.create_table(
        "forward",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("domain_id", sa.Integer, sa.ForeignKey("domain.id", ondelete="CASCADE"), nullable=False),
        sa.Column("local", sa.Text, nullable=False),  # as spelt; '' for a catch-all
        sa.Column("key", sa.Text, nullable=False, unique=True),  # user@domain or @domain
        sa.Column("keep_copy", sa.Boolean, nullable=False),
        sa.Column("active", sa.Boolean, nullable=False),
    )
    op.create_index("forward_by_domain", "forward", ["domain_id"])
    op.create_table(
        "forward_target",
        sa.Column("forward_id", sa.Integer, sa.ForeignKey("forward.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("key", sa.Text, primary_key=True),  # user@domain or @domain
        sa.Column("position", sa.Integer, nullable=False),  # the order they were named in
        sa.Column("address", sa.Text, nullable=False),  # as spelt, in the form for the wire
    )
    op.create_index("forward_target_by_key", "forward_target", ["key"])
