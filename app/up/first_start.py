"""What a database needs before people come: tables, demo, and a way in for the first admin.

Knows no server and no process; `tunebox up` and `tunebox migrate` both call it.
"""

from app.auth import users
from app.errors import Conflict
from app.kit.db import transaction
from app.settings import Settings
from app.up import migrations
from app.up.welcome import Prepared


def prepare(settings: Settings, url: str) -> Prepared:
    """Migrate, put the demo into a new database, make the first admin or a link for one."""
    fresh = migrations.upgrade(url)
    if fresh:
        from app.demo import service as demo

        with transaction(url) as session:
            demo.seed(session, settings)
    note = _unattended_admin(settings, url)
    with transaction(url) as session:
        return Prepared(welcome=users.first_admin_link(session), note=note)


def _unattended_admin(settings: Settings, url: str) -> str | None:
    """Make the admin that the environment names; return why not, once there is one."""
    if not (settings.admin_email and settings.admin_password):
        return None
    try:
        with transaction(url) as session:
            users.create_first_admin(
                session, email=settings.admin_email, password=settings.admin_password
            )
    except Conflict as refusal:
        return refusal.detail
    return None
