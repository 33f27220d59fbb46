"""Sweeps, and which runs came of them."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "20261125_sweeps"
down_revision = "20261125_preflights"
branch_labels = None
depends_on = None

_JSON = postgresql.JSONB(astext_type=sa.Text())
_NAMED = {
    "owner_id": "users",
    "dataset_id": "datasets",
    "dataset_version_id": "dataset_versions",
    "base_model_id": "base_models",
}


def upgrade() -> None:
    """Go to this revision."""
    op.create_table(
        "sweeps",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        *(sa.Column(name, sa.Text(), nullable=False) for name in _NAMED),
        sa.Column("search", _JSON, nullable=False),
        sa.Column("metric", sa.Text(), nullable=False),
        sa.Column("goal", sa.Text(), nullable=False),
        sa.Column("halving", _JSON, nullable=True),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("stopped_at", sa.DateTime(timezone=True), nullable=True),
        *(
            sa.ForeignKeyConstraint([name], [f"{table}.id"], name=op.f(f"fk_sweeps_{name}"))
            for name, table in _NAMED.items()
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sweeps")),
    )
    for name in ("owner_id", "dataset_id", "base_model_id"):
        op.create_index(op.f(f"ix_sweeps_{name}"), "sweeps", [name], unique=False)
    op.create_table(
        "sweep_runs",
        sa.Column("run_id", sa.Text(), nullable=False),
        sa.Column("sweep_id", sa.Text(), nullable=False),
        sa.Column("place", sa.Integer(), nullable=False),
        sa.Column("values", _JSON, nullable=False),
        sa.Column("rung", sa.Integer(), nullable=False),
        sa.Column("ended", _JSON, nullable=True),
        sa.ForeignKeyConstraint(
            ["run_id"], ["runs.id"], name=op.f("fk_sweep_runs_run_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["sweep_id"], ["sweeps.id"], name=op.f("fk_sweep_runs_sweep_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("run_id", name=op.f("pk_sweep_runs")),
    )
    op.create_index(op.f("ix_sweep_runs_sweep_id"), "sweep_runs", ["sweep_id"], unique=False)


def downgrade() -> None:
    """Go back."""
    op.drop_table("sweep_runs")
    op.drop_table("sweeps")
