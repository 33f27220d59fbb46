"""Splits that a job makes: why one could not be made."""

import sqlalchemy as sa
from alembic import op

revision = "20261125_splits"
down_revision = "20261125_sweeps"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Go to this revision."""
    op.add_column("dataset_splits", sa.Column("failure", sa.Text(), nullable=True))


def downgrade() -> None:
    """Go back; a split that is not made is none."""
    op.execute("DELETE FROM dataset_splits WHERE sha256 = ''")
    op.drop_column("dataset_splits", "failure")
