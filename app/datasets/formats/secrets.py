"""Keys of known makers by their prefix and length, and private-key blocks. Pure.

Knows text only. Hashes, UUIDs, public keys and words that merely begin alike are none.
"""

import re
from collections.abc import Iterator

SHOWN_CHARACTERS = 4

# Maker, then the key's form. Sources: the makers' own documentation of their key formats.
_KEYS: tuple[tuple[str, str], ...] = (
    ("Anthropic key", r"sk-ant-[a-z]{3,5}\d\d-[A-Za-z0-9_-]{80,120}"),
    ("OpenAI key", r"sk-(?:proj|svcacct|admin|None)-[A-Za-z0-9_-]{40,200}"),
    ("OpenRouter key", r"sk-or-v1-[0-9a-f]{64}"),
    ("LangSmith key", r"lsv2_(?:pt|sk)_[0-9a-f]{32}_[0-9a-f]{10}"),
    ("OpenAI key", r"sk-(?:[A-Za-z0-9]{48}|[A-Za-z0-9]{32})"),
    ("AWS access key", r"(?:AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{16}"),
    ("GitHub token", r"gh[pousr]_[A-Za-z0-9]{36,251}"),
    ("GitHub token", r"github_pat_[A-Za-z0-9]{22}_[A-Za-z0-9]{59}"),
    ("GitLab token", r"gl(?:pat|dt|rt|ptt|cbt)-[A-Za-z0-9_-]{20,64}"),
    ("Google key", r"AIza[A-Za-z0-9_-]{35}"),
    ("Google client secret", r"GOCSPX-[A-Za-z0-9_-]{28}"),
    ("Google token", r"ya29\.[A-Za-z0-9_-]{50,500}"),
    ("Slack token", r"xox[abeoprs](?:\.xox[bp])?-(?:\d+-){1,3}[A-Za-z0-9]{16,200}"),
    ("Slack token", r"xapp-\d-[A-Z0-9]{8,14}-\d{10,14}-[0-9a-f]{64}"),
    (
        "Slack webhook",
        r"hooks\.slack\.com/services/T[A-Z0-9]{8,12}/B[A-Z0-9]{8,12}/[A-Za-z0-9]{24}",
    ),
    ("Stripe key", r"[rs]k_(?:live|test)_[A-Za-z0-9]{24,247}"),
    ("Stripe webhook secret", r"whsec_[A-Za-z0-9+/]{32,64}"),
    ("Hugging Face token", r"hf_[A-Za-z0-9]{34}"),
    ("npm token", r"npm_[A-Za-z0-9]{36}"),
    ("PyPI token", r"pypi-AgE[A-Za-z0-9_-]{50,500}"),
    ("SendGrid key", r"SG\.[A-Za-z0-9_-]{22}\.[A-Za-z0-9_-]{43}"),
    ("Twilio key", r"SK[0-9a-f]{32}"),
    ("Mailgun key", r"key-[0-9a-f]{32}"),
    ("DigitalOcean token", r"do[opr]_v1_[0-9a-f]{64}"),
    ("Databricks token", r"dapi[0-9a-f]{32}(?:-\d)?"),
    ("Replicate token", r"r8_[A-Za-z0-9]{37}"),
    ("Groq key", r"gsk_[A-Za-z0-9]{52}"),
    ("xAI key", r"xai-[A-Za-z0-9]{80}"),
    ("Perplexity key", r"pplx-[A-Za-z0-9]{48}"),
    ("Telegram bot token", r"\d{8,10}:AA[A-Za-z0-9_-]{33}"),
    ("Discord bot token", r"[MNO][A-Za-z0-9_-]{23,25}\.[A-Za-z0-9_-]{6}\.[A-Za-z0-9_-]{27,38}"),
    ("Shopify token", r"shp(?:at|ca|pa|ss)_[0-9a-fA-F]{32}"),
    ("Square token", r"sq0(?:atp-[A-Za-z0-9_-]{22}|csp-[A-Za-z0-9_-]{43})"),
    ("Notion token", r"(?:secret_[A-Za-z0-9]{43}|ntn_[A-Za-z0-9]{46})"),
    ("Linear key", r"lin_api_[A-Za-z0-9]{40}"),
    ("Postman key", r"PMAK-[0-9a-f]{24}-[0-9a-f]{34}"),
    ("Vault token", r"hv[bs]\.[A-Za-z0-9_-]{24,300}"),
    ("New Relic key", r"NRAK-[A-Z0-9]{27}"),
    ("Grafana token", r"glsa_[A-Za-z0-9]{32}_[0-9a-fA-F]{8}"),
    ("Atlassian token", r"ATATT3[A-Za-z0-9_=-]{180,240}"),
    ("Airtable token", r"pat[A-Za-z0-9]{14}\.[0-9a-f]{64}"),
    ("Supabase token", r"sbp_[0-9a-f]{40}"),
    ("Doppler token", r"dp\.(?:pt|st|ct|sa)\.[A-Za-z0-9.]{40,44}"),
    ("Azure storage key", r"AccountKey=[A-Za-z0-9+/]{86}=="),
    ("Tunebox token", r"tb_[A-Za-z0-9_-]{43}"),
)
_BLOCK = r"-----BEGIN (?:[A-Z0-9]{2,12} ){0,3}PRIVATE KEY(?: BLOCK)?-----"
_NAMES: dict[str, str] = {f"k{place}": name for place, (name, _) in enumerate(_KEYS)}
_NAMES["block"] = "private key"
_KEY = "|".join(f"(?P<k{place}>{form})" for place, (_, form) in enumerate(_KEYS))
_SECRET = re.compile(rf"(?<![A-Za-z0-9_-])(?:{_KEY})(?![A-Za-z0-9_-])|(?P<block>{_BLOCK})")
# In a raw line a key may stand behind an escape: the n of "\n" is no part of it.
_SECRET_IN_JSON = re.compile(rf"(?:(?<![A-Za-z0-9_-])|(?<=\\[bfnrt]))(?:{_KEY})(?![A-Za-z0-9_-])")
_WHOLE_BLOCK = re.compile(_BLOCK + r".*?(?:-----END [A-Z0-9 ]{0,40}-----|\Z)", re.DOTALL)

SHORTEST_SECRET = 20  # characters; an AWS access key


def find_secrets(text: str) -> Iterator[tuple[str, str]]:
    """Yield the kind and the text of each key in ``text``, each key once."""
    # Keys hold no white space: only long words are looked at.
    words = text.split()
    if len(max(words, key=len, default="")) < SHORTEST_SECRET and "-----BEGIN" not in text:
        return
    long_words = [word for word in words if len(word) >= SHORTEST_SECRET]
    places = [text] if "-----BEGIN" in text else long_words
    known: set[str] = set()
    for match in (match for place in places for match in _SECRET.finditer(place)):
        if match.group() not in known:
            known.add(match.group())
            yield _NAMES[match.lastgroup or "block"], match.group()


def masked(text: str) -> str:
    """Return ``text`` with all but the first four characters of each key hidden; as long."""
    text = _WHOLE_BLOCK.sub(_hide_block, text)
    return _SECRET_IN_JSON.sub(lambda match: _hide(match.group()), text)


def _hide(secret: str) -> str:
    return secret[:SHOWN_CHARACTERS] + "•" * (len(secret) - SHOWN_CHARACTERS)


def _hide_block(match: re.Match[str]) -> str:
    block = match.group()
    head = block.index("-----", 5) + 5
    return block[:head] + "•" * (len(block) - head)
