"""People, tokens and the audit over HTTP. Translation only; rules live in the services."""

from fastapi import APIRouter, Request

from app.auth import schemas, service, tokens, users
from app.auth.idempotency import once
from app.dependencies import (
    Admin,
    CurrentUser,
    IdempotencyKey,
    PageParams,
    SessionDep,
    SettingsDep,
    absolute_url,
)

router = APIRouter(tags=["Team"])


@router.get("/users", name="users.index")
def list_users(session: SessionDep, actor: CurrentUser, page: PageParams) -> schemas.UserList:
    """List people by name, disabled ones too."""
    del actor
    found = users.list_users(session, page=page)
    return schemas.UserList(
        items=[schemas.UserOut.model_validate(row) for row in found.items],
        next=found.next,
        total=found.total,
    )


@router.get("/users/me", name="users.me")
def me(actor: CurrentUser) -> schemas.Me:
    """Tell who is asking."""
    return schemas.Me.model_validate(actor)


@router.post("/users", status_code=201, name="users.invite")
def invite(  # FastAPI passes them by name
    body: schemas.InvitationIn,
    request: Request,
    session: SessionDep,
    settings: SettingsDep,
    actor: Admin,
    key: IdempotencyKey = None,
) -> schemas.InvitationOut:
    """Invite a person: answers a link that works once, for seven days."""
    made = once(
        session,
        actor=actor,
        key=key,
        operation="users.invite",
        body=body,
        create=lambda: users.invite(session, actor=actor, email=body.email, role=body.role),
        identify=lambda invitation: invitation.id,
        load=lambda link_id: users.invitation(session, link_id=link_id),
    )
    link = absolute_url(request, settings, made.path) if made.path else None
    return schemas.InvitationOut(
        id=made.id, link=link, email=made.email, role=made.role, expires_at=made.expires_at
    )


@router.patch("/users/{user_id}", name="users.change_role")
def change_role(
    user_id: str, body: schemas.RoleIn, session: SessionDep, actor: Admin
) -> schemas.UserOut:
    """Give a person another role; the last admin stays one (409)."""
    user = users.change_role(session, actor=actor, user_id=user_id, role=body.role)
    return schemas.UserOut.model_validate(user)


@router.delete("/users/{user_id}", status_code=204, name="users.disable")
def disable(user_id: str, session: SessionDep, actor: Admin) -> None:
    """Let a person in no more; what they made stays."""
    users.disable(session, actor=actor, user_id=user_id)


@router.get("/tokens", name="tokens.index")
def list_tokens(session: SessionDep, actor: CurrentUser, page: PageParams) -> schemas.TokenList:
    """List one's own tokens; an admin sees everybody's."""
    found = tokens.list_tokens(session, actor=actor, page=page)
    return schemas.TokenList(
        items=[schemas.TokenOut.model_validate(row) for row in found.items],
        next=found.next,
        total=found.total,
    )


@router.post("/tokens", status_code=201, name="tokens.create")
def create_token(
    body: schemas.TokenIn, session: SessionDep, actor: CurrentUser, key: IdempotencyKey = None
) -> schemas.NewTokenOut:
    """Make a token for oneself. It is shown in this answer and never again."""
    made = once(
        session,
        actor=actor,
        key=key,
        operation="tokens.create",
        body=body,
        create=lambda: tokens.create(
            session, actor=actor, name=body.name, scope=body.scope, days=body.days
        ),
        identify=lambda token: token.row.id,
        load=lambda token_id: tokens.get(session, actor=actor, token_id=token_id),
    )
    shown = schemas.TokenOut.model_validate(made.row)
    return schemas.NewTokenOut(**shown.model_dump(), token=made.value)


@router.delete("/tokens/{token_id}", status_code=204, name="tokens.revoke")
def revoke_token(token_id: str, session: SessionDep, actor: CurrentUser) -> None:
    """End a token now: one's own, or any for an admin."""
    tokens.revoke(session, actor=actor, token_id=token_id)


@router.get("/audit", name="audit.index")
def list_audit(session: SessionDep, actor: Admin, page: PageParams) -> schemas.AuditList:
    """List who did what, newest first. For admins."""
    del actor
    found = service.list_audit(session, page=page)
    return schemas.AuditList(
        items=[schemas.AuditOut.model_validate(row) for row in found.items],
        next=found.next,
        total=found.total,
    )
