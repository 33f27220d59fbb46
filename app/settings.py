"""Every setting of the product, read once from the environment.

Knows nothing of what uses a setting. The only module that reads environment variables.
"""

from functools import lru_cache
from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """The environment, typed. Each field names its variable; README's table lists them all."""

    model_config = SettingsConfigDict(
        frozen=True, populate_by_name=True, extra="ignore", env_ignore_empty=True
    )

    data: Path = Field(Path(".data"), alias="TUNEBOX_DATA")
    host: str = Field("127.0.0.1", alias="TUNEBOX_HOST")
    port: int = Field(8000, alias="TUNEBOX_PORT", ge=1, le=65535)
    database_url: str | None = Field(None, alias="DATABASE_URL")
    redis_url: str | None = Field(None, alias="REDIS_URL")
    storage_url: str | None = Field(None, alias="TUNEBOX_STORAGE_URL")
    models: Path | None = Field(None, alias="TUNEBOX_MODELS")
    admin_email: str | None = Field(None, alias="TUNEBOX_ADMIN_EMAIL")
    admin_password: str | None = Field(None, alias="TUNEBOX_ADMIN_PASSWORD")
    workers: int | None = Field(None, alias="TUNEBOX_WORKERS", ge=0, le=64)
    allow_simulated: bool = Field(default=False, alias="TUNEBOX_ALLOW_SIMULATED")
    # Where browsers reach us when a proxy stands before us, e.g. https://tune.example.org
    public_url: str | None = Field(None, alias="TUNEBOX_PUBLIC_URL")
    # Uploads above this are refused; the disk is checked as well.
    max_upload_bytes: int = Field(20 * 2**30, alias="TUNEBOX_MAX_UPLOAD_BYTES", gt=0)
    # What a packed file may grow to when it becomes rows.
    max_unpacked_bytes: int = Field(100 * 2**30, alias="TUNEBOX_MAX_UNPACKED_BYTES", gt=0)
    # What a person's datasets and open uploads may take; none: as much as the disk has.
    user_quota_bytes: int | None = Field(None, alias="TUNEBOX_USER_QUOTA_BYTES", gt=0)
    # Files below this folder of this machine can be taken as datasets; none: no imports.
    import_folder: Path | None = Field(None, alias="TUNEBOX_IMPORT_FOLDER")
    # How long a worker may be silent before its job goes to another one.
    lease_seconds: float = Field(15.0, alias="TUNEBOX_LEASE_SECONDS", gt=0)
    # How long a trainer may take to save a checkpoint before it is killed.
    stop_grace_seconds: float = Field(60.0, alias="TUNEBOX_STOP_GRACE_SECONDS", gt=0)

    @property
    def data_folder(self) -> Path:
        """The data folder as an absolute path."""
        return self.data.expanduser().resolve()

    @property
    def models_folder(self) -> Path:
        """Where base models live, one folder each."""
        return (self.models or self.data_folder / "models").expanduser().resolve()

    @property
    def storage(self) -> str:
        """The fsspec URL under which uploads and results are kept."""
        return self.storage_url or f"file://{self.data_folder / 'storage'}"


@lru_cache
def get_settings() -> Settings:
    """Return the settings of this process; tests call ``get_settings.cache_clear()``."""
    return Settings()  # pyright: ignore[reportCallIssue]  # fields come from the environment
