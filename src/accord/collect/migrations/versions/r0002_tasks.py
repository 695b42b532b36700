"""Prompts, replies, tasks, assignments, annotations, adjudications."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

ID = sa.String(36)
TIME = sa.DateTime(timezone=True)
JSON = sa.JSON(none_as_null=True).with_variant(postgresql.JSONB(none_as_null=True), "postgresql")
TABLES = ["annotation", "task_author", "response", "assignment", "adjudication", "task", "prompt"]


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "prompt",
        sa.Column("id", ID, nullable=False),
        sa.Column("project_id", ID, nullable=False),
        sa.Column("external_id", sa.Text(), nullable=False),
        sa.Column("messages", JSON, nullable=False),
        sa.Column("meta", JSON, nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.ForeignKeyConstraint(["project_id"], ["project.id"], name=op.f("fk_prompt_project_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_prompt")),
        sa.UniqueConstraint("project_id", "sha256", name=op.f("uq_prompt_project_id_sha256")),
    )
    op.create_table(
        "task",
        sa.Column("id", ID, nullable=False),
        sa.Column("project_id", ID, nullable=False),
        sa.Column("key", sa.String(length=200), nullable=False),
        sa.Column("kind", sa.String(length=10), nullable=False),
        sa.Column("purpose", sa.String(length=15), nullable=False),
        sa.Column("prompt_id", ID, nullable=False),
        sa.Column("candidates", JSON, nullable=False),
        sa.Column("overlap", sa.Integer(), nullable=False),
        sa.Column("overlap_base", sa.Integer(), nullable=False),
        sa.Column("precedence", sa.Integer(), nullable=False),
        sa.Column("turn", sa.Integer(), nullable=False),
        sa.Column("slice", sa.String(length=10), nullable=False),
        sa.Column("policy", sa.String(length=50), nullable=False),
        sa.Column("propensity", sa.Float(), nullable=True),
        sa.Column("lane", sa.String(length=10), nullable=False),
        sa.Column("gold", JSON, nullable=True),
        sa.Column("repeat_of", ID, nullable=True),
        sa.Column("reserved_for", ID, nullable=True),
        sa.Column("state", sa.String(length=12), nullable=False),
        sa.Column("n_claimed", sa.Integer(), nullable=False),
        sa.Column("n_done", sa.Integer(), nullable=False),
        sa.Column("n_skipped", sa.Integer(), nullable=False),
        sa.Column("tags", JSON, nullable=False),
        sa.Column("meta", JSON, nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.CheckConstraint("(lane = 'gold') = (gold IS NOT NULL)", name=op.f("ck_task_gold")),
        sa.CheckConstraint("kind IN ('pair', 'rank', 'rate', 'edit')", name=op.f("ck_task_kind")),
        sa.CheckConstraint("lane <> 'queue' OR n_claimed + n_done <= overlap", name=op.f("ck_task_overlap")),
        sa.CheckConstraint("lane IN ('queue', 'gold', 'repeat')", name=op.f("ck_task_lane")),
        sa.CheckConstraint("purpose IN ('label', 'evaluation', 'qualification')", name=op.f("ck_task_purpose")),
        sa.CheckConstraint("slice IN ('random', 'active')", name=op.f("ck_task_slice")),
        sa.CheckConstraint("state IN ('open', 'done', 'adjudicate', 'closed')", name=op.f("ck_task_state")),
        sa.CheckConstraint("n_claimed >= 0 AND n_done >= 0 AND overlap >= 1", name=op.f("ck_task_counts")),
        sa.ForeignKeyConstraint(["project_id"], ["project.id"], name=op.f("fk_task_project_id")),
        sa.ForeignKeyConstraint(["prompt_id"], ["prompt.id"], name=op.f("fk_task_prompt_id")),
        sa.ForeignKeyConstraint(["repeat_of"], ["task.id"], name=op.f("fk_task_repeat_of")),
        sa.ForeignKeyConstraint(["reserved_for"], ["user.id"], name=op.f("fk_task_reserved_for")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_task")),
        sa.UniqueConstraint("project_id", "key", name=op.f("uq_task_project_id_key")),
    )
    op.create_index(op.f("ix_task_prompt_id"), "task", ["prompt_id"], unique=False)
    op.create_index("ix_task_queue", "task", ["project_id", "state", "lane", "precedence", "turn", "id"], unique=False)
    op.create_index(op.f("ix_task_repeat_of"), "task", ["repeat_of"], unique=False)
    op.create_index(op.f("ix_task_reserved_for"), "task", ["reserved_for"], unique=False)
    op.create_table(
        "adjudication",
        sa.Column("id", ID, nullable=False),
        sa.Column("project_id", ID, nullable=False),
        sa.Column("task_id", ID, nullable=False),
        sa.Column("adjudicator_id", ID, nullable=False),
        sa.Column("idempotency_key", sa.String(length=120), nullable=False),
        sa.Column("verdict", JSON, nullable=False),
        sa.Column("shown_order", JSON, nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.ForeignKeyConstraint(["adjudicator_id"], ["user.id"], name=op.f("fk_adjudication_adjudicator_id")),
        sa.ForeignKeyConstraint(["project_id"], ["project.id"], name=op.f("fk_adjudication_project_id")),
        sa.ForeignKeyConstraint(["task_id"], ["task.id"], name=op.f("fk_adjudication_task_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_adjudication")),
        sa.UniqueConstraint(
            "adjudicator_id", "idempotency_key", name=op.f("uq_adjudication_adjudicator_id_idempotency_key")
        ),
    )
    op.create_index(op.f("ix_adjudication_project_id"), "adjudication", ["project_id"], unique=False)
    op.create_index(op.f("ix_adjudication_task_id"), "adjudication", ["task_id"], unique=False)
    op.create_table(
        "assignment",
        sa.Column("id", ID, nullable=False),
        sa.Column("project_id", ID, nullable=False),
        sa.Column("task_id", ID, nullable=False),
        sa.Column("annotator_id", ID, nullable=False),
        sa.Column("state", sa.String(length=10), nullable=False),
        sa.Column("shown_order", JSON, nullable=False),
        sa.Column("seed", sa.BigInteger(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("guideline_id", ID, nullable=True),
        sa.Column("lease_expires_at", TIME, nullable=False),
        sa.Column("served_at", TIME, nullable=False),
        sa.Column("submitted_at", TIME, nullable=True),
        sa.Column("gold_right", sa.Boolean(), nullable=True),
        sa.Column("skip_reason", sa.String(length=20), nullable=True),
        sa.Column("skip_comment", sa.Text(), nullable=True),
        sa.Column("skip_key", sa.String(length=100), nullable=True),
        sa.CheckConstraint(
            "state IN ('open', 'revising', 'submitted', 'skipped', 'expired', 'released')",
            name=op.f("ck_assignment_state"),
        ),
        sa.ForeignKeyConstraint(["annotator_id"], ["user.id"], name=op.f("fk_assignment_annotator_id")),
        sa.ForeignKeyConstraint(["guideline_id"], ["guideline.id"], name=op.f("fk_assignment_guideline_id")),
        sa.ForeignKeyConstraint(["task_id"], ["task.id"], name=op.f("fk_assignment_task_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_assignment")),
        sa.UniqueConstraint("task_id", "annotator_id", name=op.f("uq_assignment_task_id_annotator_id")),
    )
    op.create_index(
        "ix_assignment_leases",
        "assignment",
        ["lease_expires_at"],
        unique=False,
        sqlite_where=sa.text("state = 'open'"),
        postgresql_where=sa.text("state = 'open'"),
    )
    op.create_index(
        "ix_assignment_mine", "assignment", ["annotator_id", "project_id", "state", "submitted_at"], unique=False
    )
    op.create_index(op.f("ix_assignment_project_id"), "assignment", ["project_id"], unique=False)
    op.create_table(
        "response",
        sa.Column("id", ID, nullable=False),
        sa.Column("prompt_id", ID, nullable=False),
        sa.Column("model_version_id", ID, nullable=True),
        sa.Column("author_user_id", ID, nullable=True),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("meta", JSON, nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.CheckConstraint(
            "(model_version_id IS NULL) <> (author_user_id IS NULL)", name=op.f("ck_response_one_origin")
        ),
        sa.ForeignKeyConstraint(["author_user_id"], ["user.id"], name=op.f("fk_response_author_user_id")),
        sa.ForeignKeyConstraint(["model_version_id"], ["model_version.id"], name=op.f("fk_response_model_version_id")),
        sa.ForeignKeyConstraint(["prompt_id"], ["prompt.id"], name=op.f("fk_response_prompt_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_response")),
        sa.UniqueConstraint("prompt_id", "sha256", name=op.f("uq_response_prompt_id_sha256")),
    )
    op.create_index(op.f("ix_response_author_user_id"), "response", ["author_user_id"], unique=False)
    op.create_index(op.f("ix_response_model_version_id"), "response", ["model_version_id"], unique=False)
    op.create_table(
        "task_author",
        sa.Column("task_id", ID, nullable=False),
        sa.Column("user_id", ID, nullable=False),
        sa.ForeignKeyConstraint(["task_id"], ["task.id"], name=op.f("fk_task_author_task_id")),
        sa.ForeignKeyConstraint(["user_id"], ["user.id"], name=op.f("fk_task_author_user_id")),
        sa.PrimaryKeyConstraint("task_id", "user_id", name=op.f("pk_task_author")),
    )
    op.create_table(
        "annotation",
        sa.Column("id", ID, nullable=False),
        sa.Column("project_id", ID, nullable=False),
        sa.Column("task_id", ID, nullable=False),
        sa.Column("assignment_id", ID, nullable=False),
        sa.Column("annotator_id", ID, nullable=False),
        sa.Column("idempotency_key", sa.String(length=120), nullable=False),
        sa.Column("request_sha256", sa.String(length=64), nullable=False),
        sa.Column("kind", sa.String(length=10), nullable=False),
        sa.Column("outcome", sa.String(length=10), nullable=False),
        sa.Column("choice", sa.Integer(), nullable=True),
        sa.Column("verdict", JSON, nullable=True),
        sa.Column("edit_response_id", ID, nullable=True),
        sa.Column("ordinal", sa.Integer(), nullable=True),
        sa.Column("extra", sa.Boolean(), nullable=False),
        sa.Column("late", sa.Boolean(), nullable=False),
        sa.Column("dwell_ms", sa.Integer(), nullable=False),
        sa.Column("seen_ms", sa.Integer(), nullable=False),
        sa.Column("client", JSON, nullable=False),
        sa.Column("guideline_id", ID, nullable=True),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("supersedes_id", ID, nullable=True),
        sa.CheckConstraint("kind IN ('pair', 'rank', 'rate', 'edit')", name=op.f("ck_annotation_kind")),
        sa.CheckConstraint(
            "outcome IN ('choice', 'tie', 'both_bad', 'ranking', 'rating', 'edit', 'retracted')",
            name=op.f("ck_annotation_outcome"),
        ),
        sa.ForeignKeyConstraint(["annotator_id"], ["user.id"], name=op.f("fk_annotation_annotator_id")),
        sa.ForeignKeyConstraint(["assignment_id"], ["assignment.id"], name=op.f("fk_annotation_assignment_id")),
        sa.ForeignKeyConstraint(["edit_response_id"], ["response.id"], name=op.f("fk_annotation_edit_response_id")),
        sa.ForeignKeyConstraint(["guideline_id"], ["guideline.id"], name=op.f("fk_annotation_guideline_id")),
        sa.ForeignKeyConstraint(["supersedes_id"], ["annotation.id"], name=op.f("fk_annotation_supersedes_id")),
        sa.ForeignKeyConstraint(["task_id"], ["task.id"], name=op.f("fk_annotation_task_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_annotation")),
        sa.UniqueConstraint("annotator_id", "idempotency_key", name=op.f("uq_annotation_annotator_id_idempotency_key")),
        sa.UniqueConstraint("supersedes_id", name=op.f("uq_annotation_supersedes_id")),
    )
    op.create_index(op.f("ix_annotation_assignment_id"), "annotation", ["assignment_id"], unique=False)
    op.create_index(op.f("ix_annotation_edit_response_id"), "annotation", ["edit_response_id"], unique=False)
    op.create_index("ix_annotation_project", "annotation", ["project_id", "id"], unique=False)
    op.create_index("ix_annotation_recent", "annotation", ["annotator_id", "id"], unique=False)
    op.create_index(op.f("ix_annotation_task_id"), "annotation", ["task_id"], unique=False)


def downgrade() -> None:
    """Drop the tables, with what is in them."""
    for name in TABLES:
        op.drop_table(name)
