"""Exports of a version over HTTP. Translation only; what leaves is made by ``exports``."""

from dataclasses import dataclass
from typing import Annotated, Literal
from urllib.parse import quote

from fastapi import APIRouter, Depends, Query, Response
from fastapi.responses import StreamingResponse

from app.datasets import service
from app.datasets.endpoints import StorageDep
from app.datasets.leaving import exports
from app.datasets.leaving.card import card
from app.dependencies import CurrentUser, SessionDep

router = APIRouter(prefix="/datasets", tags=["Datasets"])

Kind = Literal["messages", "parquet", "card", "llamafactory"]
Side = Literal["trained", "held_out"]


@dataclass(frozen=True)
class Wish:
    """What is to leave: a form, of which version, and which side of a split."""

    format: Kind
    version: int | None
    split: str | None
    side: Side | None


def wish_of(
    format: Annotated[Kind, Query()],  # noqa: A002  # the parameter's public name
    version: Annotated[int | None, Query(ge=1)] = None,
    split: str | None = None,
    side: Side | None = None,
) -> Wish:
    """Return what a request asks for."""
    return Wish(format, version, split, side)


@router.get("/{dataset_id}/export", name="datasets.export", response_class=StreamingResponse)
def export(
    dataset_id: str,
    wish: Annotated[Wish, Depends(wish_of)],
    session: SessionDep,
    storage: StorageDep,
    actor: CurrentUser,
) -> Response:
    """Download a version's good rows as messages, or what describes it.

    `messages` is JSON Lines, `parquet` the same as Parquet, `card` a dataset card in Markdown,
    `llamafactory` a `dataset_info.json`. With `split`, the rows of one `side` leave (`trained`).
    """
    del actor
    dataset = service.get(session, dataset_id=dataset_id).dataset
    of = service.get_version(session, dataset_id=dataset_id, number=wish.version)
    if wish.format == "card":
        service.require_checked(of)
        text = card(exports.described(session, dataset, of))
        return _download(text, "text/markdown; charset=utf-8", "README.md")
    if wish.format == "llamafactory":
        text = exports.llamafactory_json(storage, dataset, of)
        return _download(text, "application/json", "dataset_info.json")
    exports.require_conversations(of)
    part = exports.part_of(session, version=of, split_id=wish.split, side=wish.side)
    name = exports.file_name(dataset, of, parquet=wish.format == "parquet", part=part)
    headers = _attachment(name)
    if wish.format == "parquet":
        body = exports.messages_parquet(storage, of, part)
        return StreamingResponse(body, media_type="application/vnd.apache.parquet", headers=headers)
    body = exports.messages_jsonl(storage, of, part)
    return StreamingResponse(body, media_type="application/jsonl", headers=headers)


def _download(text: str, media_type: str, name: str) -> Response:
    return Response(text, media_type=media_type, headers=_attachment(name))


def _attachment(name: str) -> dict[str, str]:
    return {"Content-Disposition": f"attachment; filename*=UTF-8''{quote(name, safe='')}"}
