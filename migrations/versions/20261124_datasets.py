"""Containers, splits, recipes and reports of dataset versions."""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "20261124_datasets"
down_revision = "20261124_initial"
branch_labels = None
depends_on = None


def _added() -> list[sa.Column[Any]]:
    return [
        sa.Column("container", sa.Text(), nullable=True),
        sa.Column("compression", sa.Text(), nullable=True),
        sa.Column("declared_format", sa.Text(), nullable=True),
        sa.Column("mapping", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("parent_id", sa.Text(), nullable=True),
        sa.Column("recipe", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("first_stage_at", sa.DateTime(timezone=True), nullable=True),
    ]


def upgrade() -> None:
    """Go to this revision."""
    for column in _added():
        op.add_column("dataset_versions", column)
    op.create_foreign_key(
        op.f("fk_dataset_versions_parent_id"),
        "dataset_versions",
        "dataset_versions",
        ["parent_id"],
        ["id"],
    )
    _create_token_reports()
    _create_splits()
    op.create_table(
        "uploads",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("owner_id", sa.Text(), nullable=False),
        sa.Column("filename", sa.Text(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("received", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["owner_id"], ["users.id"], name=op.f("fk_uploads_owner_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_uploads")),
    )
    op.create_index(op.f("ix_uploads_owner_id"), "uploads", ["owner_id"], unique=False)


def _of_a_version(name: str) -> list[Any]:
    """Return the columns and constraints that every table of results of a version has."""
    return [
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("version_id", sa.Text(), nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["version_id"],
            ["dataset_versions.id"],
            name=op.f(f"fk_{name}_version_id"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(["created_by"], ["users.id"], name=op.f(f"fk_{name}_created_by")),
        sa.PrimaryKeyConstraint("id", name=op.f(f"pk_{name}")),
    ]


def _create_token_reports() -> None:
    op.create_table(
        "token_reports",
        *_of_a_version("token_reports"),
        sa.Column("base_model_id", sa.Text(), nullable=False),
        sa.Column("max_length", sa.Integer(), nullable=False),
        sa.Column("result", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("failure", sa.Text(), nullable=True),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["base_model_id"],
            ["base_models.id"],
            name=op.f("fk_token_reports_base_model_id"),
            ondelete="CASCADE",
        ),
        sa.UniqueConstraint(
            "version_id",
            "base_model_id",
            "max_length",
            name=op.f("uq_token_reports_version_id_base_model_id_max_length"),
        ),
    )
    op.create_index(
        op.f("ix_token_reports_version_id"), "token_reports", ["version_id"], unique=False
    )


def _create_splits() -> None:
    op.create_table(
        "dataset_splits",
        *_of_a_version("dataset_splits"),
        sa.Column("method", sa.Text(), nullable=False),
        sa.Column("parameters", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("result", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False),
    )
    op.create_index(
        op.f("ix_dataset_splits_version_id"), "dataset_splits", ["version_id"], unique=False
    )


def downgrade() -> None:
    """Go back."""
    op.drop_table("uploads")
    op.drop_table("dataset_splits")
    op.drop_table("token_reports")
    op.drop_constraint(
        op.f("fk_dataset_versions_parent_id"), "dataset_versions", type_="foreignkey"
    )
    for column in reversed(_added()):
        op.drop_column("dataset_versions", column.name)
