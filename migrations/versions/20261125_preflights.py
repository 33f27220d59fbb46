"""What was tried of runs before they started."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "20261125_preflights"
down_revision = "20261124_datasets"
branch_labels = None
depends_on = None

_OWNERS = {
    "job_id": ("jobs", "CASCADE"),
    "run_id": ("runs", "CASCADE"),
    "owner_id": ("users", None),
    "dataset_version_id": ("dataset_versions", "CASCADE"),
    "base_model_id": ("base_models", "CASCADE"),
}


def upgrade() -> None:
    """Go to this revision."""
    op.create_table(
        "preflights",
        sa.Column("id", sa.Text(), nullable=False),
        *(sa.Column(name, sa.Text(), nullable=name == "run_id") for name in _OWNERS),
        sa.Column("mode", sa.Text(), nullable=False),
        sa.Column("spec", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("result", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("failure", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        *(
            sa.ForeignKeyConstraint(
                [name], [f"{table}.id"], name=op.f(f"fk_preflights_{name}"), ondelete=then
            )
            for name, (table, then) in _OWNERS.items()
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_preflights")),
    )
    for name in _OWNERS.keys() - {"owner_id"}:
        op.create_index(op.f(f"ix_preflights_{name}"), "preflights", [name], unique=False)


def downgrade() -> None:
    """Go back."""
    op.drop_table("preflights")
