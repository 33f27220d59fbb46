"""A model's tokenizer and templates from its folder, exactly as transformers would load them.

Where tokenizer.json is all that transformers would use it is read directly; elsewhere transformers
loads the folder once, and what it makes of it is kept beside the token cache. Runs no code of the
model. Knows neither datasets nor jobs.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec
from tokenizers import Tokenizer

from app.jobs.state import FailureKind
from worker.trainer.chat import Chat, named
from worker.trainer.failures import TrainerError
from worker.trainer.files import write_whole

_TOKENIZER_FILES = (
    *("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "merges.txt"),
    *("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "config.json"),
)
_TEMPLATE, _MORE_TEMPLATES = "chat_template.jinja", "additional_chat_templates"
# Of these types transformers takes tokenizer.json as it is, if the class is one of _GENERIC.
PLAIN_TYPES = frozenset(
    {"deepseek_v3", "gpt_oss", "granite", "llama", "olmo2", "phi3", "smollm3", "stablelm"}
)
_GENERIC = frozenset({"PreTrainedTokenizerFast", "TokenizersBackend"})
_NAMED = ("bos", "eos", "unk", "sep", "pad", "cls", "mask")
_FLAGS = ("content", "single_word", "lstrip", "rstrip", "normalized", "special")


def read(folder: Path, *, cache: Path | None = None, today: date | None = None) -> Chat:
    """Return a folder's tokenizer and templates; ``cache`` keeps what transformers made.

    Raises ``TrainerError`` (model_unavailable) where they cannot be loaded.
    """
    try:
        digest = _digest(folder)
        config = _json(folder / "tokenizer_config.json")
        special = _plainly(folder, config)
        if special is not None:
            tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
            templates = templates_of(folder)
        else:
            tokenizer, templates, special = _converted(folder, digest, cache)
    except Exception as error:
        text = f"the tokenizer of {folder.name} cannot be loaded: {type(error).__name__}: {error}"
        raise TrainerError(FailureKind.MODEL_UNAVAILABLE, text) from error
    return Chat(tokenizer, templates, special, today=today, digest=digest)


def _digest(folder: Path) -> str:
    told = hashlib.sha256(version("tokenizers").encode())
    for name in _TOKENIZER_FILES:
        path = folder / name
        if path.is_file():
            told.update(f"\0{name}\0{path.stat().st_size}\0".encode())
            told.update(path.read_bytes())
    return told.hexdigest()


def _json(path: Path) -> dict[str, Any]:
    return msgspec.json.decode(path.read_bytes(), type=dict[str, Any]) if path.is_file() else {}


def templates_of(folder: Path) -> dict[str, str]:
    """Return a folder's templates by name; files go before what the configuration says."""
    found = {path.stem: path for path in sorted((folder / _MORE_TEMPLATES).glob("*.jinja"))}
    if (folder / _TEMPLATE).is_file():
        found["default"] = folder / _TEMPLATE
    if found:
        return {name: path.read_text(encoding="utf-8") for name, path in found.items()}
    return named(_json(folder / "tokenizer_config.json").get("chat_template"))


def _plainly(folder: Path, config: Mapping[str, Any]) -> dict[str, str] | None:
    """Return the special tokens if tokenizer.json holds all that transformers uses, else None."""
    path = folder / "tokenizer.json"
    generic = config.get("tokenizer_class") in _GENERIC
    if not generic or _json(folder / "config.json").get("model_type") not in PLAIN_TYPES:
        return None
    if "added_tokens_decoder" not in config and (
        (folder / "special_tokens_map.json").exists() or (folder / "added_tokens.json").exists()
    ):
        return None  # older folders, whose parts transformers puts together by rules of its own
    added = {token["id"]: token for token in _json(path).get("added_tokens") or []}
    contents = {token["content"] for token in added.values()}
    special = {f"{name}_token": config.get(f"{name}_token") for name in _NAMED}
    known = {name: _content(token) for name, token in special.items() if token is not None}
    extra = config.get("extra_special_tokens") or config.get("additional_special_tokens") or []
    listed: dict[str, Any] = config.get("added_tokens_decoder") or {}
    fits = (
        set(known.values()) <= contents
        and isinstance(extra, list)
        and {_content(token) for token in extra} <= contents
        and all(_same(token, added.get(int(place))) for place, token in listed.items())
        and not config.get("split_special_tokens")
        and not _has_more_names(config)
    )
    return known if fits else None


def _content(token: Any) -> str:
    return str(token["content"] if isinstance(token, Mapping) else token)


def _same(listed: Any, added: Mapping[str, Any] | None) -> bool:
    return added is not None and all(listed.get(flag) == added.get(flag) for flag in _FLAGS)


def _has_more_names(config: Mapping[str, Any]) -> bool:
    usual = {f"{name}_token" for name in _NAMED}
    return any(
        name.endswith("_token") and name not in usual and isinstance(value, str | dict)
        for name, value in config.items()
    )


def _converted(
    folder: Path, digest: str, cache: Path | None
) -> tuple[Tokenizer, dict[str, str], dict[str, str]]:
    """Return what transformers makes of the folder, from ``cache`` if it was made before."""
    sources = sorted([folder / _TEMPLATE, *(folder / _MORE_TEMPLATES).glob("*.jinja")])
    told = hashlib.sha256(f"{digest} {version('transformers')}".encode())
    for path in sources:
        told.update(path.read_bytes() if path.is_file() else b"\0")
    kept = cache / "tokenizers" / f"{told.hexdigest()[:32]}.json" if cache else None
    if kept is None or not kept.is_file():
        made = _by_transformers(folder)
        if kept is not None:
            kept.parent.mkdir(parents=True, exist_ok=True)
            aside = kept.with_name(f"{kept.stem}.{os.getpid()}.part")  # others may make it too
            write_whole(aside, json.dumps(made).encode())
            aside.replace(kept)
    else:
        made = _json(kept)
    return Tokenizer.from_str(made["tokenizer"]), made["templates"], made["special"]


def _by_transformers(folder: Path) -> dict[str, Any]:
    from transformers import AutoTokenizer  # seconds; only here, and once for a model

    loaded = AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    return {
        "tokenizer": loaded.backend_tokenizer.to_str(),
        "templates": named(loaded.chat_template),
        "special": loaded.special_tokens_map,
    }
