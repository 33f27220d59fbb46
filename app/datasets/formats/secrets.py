"""Keys of known makers by their prefix and length, and private-key blocks. Pure.

Knows text only. Hashes, UUIDs, public keys and words that merely begin alike are none; neither is
a block's first line that prose speaks of. ``signs`` sieves raw rows for them first.
"""

import re
from collections.abc import Iterable, Iterator

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
    ("Docker token", r"dckr_(?:pat|oat)_[A-Za-z0-9_-]{27,56}"),
    ("RubyGems key", r"rubygems_[0-9a-f]{48}"),
    ("Pulumi token", r"pul-[0-9a-f]{40}"),
    ("Figma token", r"fig[dour]_[A-Za-z0-9_-]{40,60}"),
    ("Netlify token", r"nfp_[A-Za-z0-9]{36,40}"),
    ("Brevo key", r"xkeysib-[0-9a-f]{64}-[A-Za-z0-9]{16}"),
    ("Sentry token", r"sntry[su]_[A-Za-z0-9+/=_-]{60,400}"),
    ("Tailscale key", r"tskey-[a-z]{3,10}-[A-Za-z0-9]{11,24}-[A-Za-z0-9]{20,64}"),
    ("PlanetScale token", r"pscale_(?:tkn|oauth|pw)_[A-Za-z0-9_-]{32,64}"),
    ("Pinecone key", r"pcsk_[A-Za-z0-9]{4,8}_[A-Za-z0-9]{50,64}"),
    ("NVIDIA key", r"nvapi-[A-Za-z0-9_-]{64}"),
    ("Cerebras key", r"csk-[a-z0-9]{48}"),
    ("Langfuse key", r"sk-lf-[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"),
    ("age key", r"AGE-SECRET-KEY-1[QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L]{58}"),
    ("Tunebox token", r"tb_[A-Za-z0-9_-]{43}"),
)
FORMS = tuple(form for _, form in _KEYS)  # for the sieve before this look
_HEAD = r"-----BEGIN (?:[A-Z0-9]{2,12} ){0,3}PRIVATE KEY(?: BLOCK)?-----"
_BREAK = r"(?:\s|\\[nr])"  # as it is, or as code and raw JSON spell it
_LABELS = rf"(?:[A-Z][A-Za-z-]{{2,20}}: [^\n\\]{{1,80}}{_BREAK}+)*"
_TAIL = r"-----END [A-Z0-9 ]{0,40}-----"
# Below its first line a block has its content, or at least its end: else it is only spoken of.
_BLOCK = rf"{_HEAD}{_BREAK}*{_LABELS}(?:[A-Za-z0-9+/=]{{16}}|[A-Za-z0-9+/=]+{_BREAK}+-----END)"
_NAMES: dict[str, str] = {f"k{place}": name for place, (name, _) in enumerate(_KEYS)}
_NAMES["block"] = "private key"


def _by_first_letter(forms: Iterable[tuple[str, str]]) -> str:
    """Return one pattern of named forms that looks at a letter once, not once for each form."""
    groups: dict[str, list[str]] = {}
    for name, form in forms:
        groups.setdefault(form[0] if form[0].isalnum() else "", []).append(f"(?P<{name}>{form})")
    return "|".join(
        f"(?={first})(?:{'|'.join(group)})" if first else "|".join(group)
        for first, group in groups.items()
    )


_KEY = _by_first_letter((f"k{place}", form) for place, (_, form) in enumerate(_KEYS))
_SECRET = re.compile(
    rf"(?<![A-Za-z0-9_-])(?:{_KEY})(?![A-Za-z0-9_-])|(?P<block>{_BLOCK})", re.ASCII
)
# In a raw line a key may stand behind an escape: the n of "\n" is no part of it.
_SECRET_IN_JSON = re.compile(
    rf"(?:(?<![A-Za-z0-9_-])|(?<=\\[bfnrt]))(?:{_KEY})(?![A-Za-z0-9_-])", re.ASCII
)
_REST_OF_BLOCK = re.compile(
    rf"(?:(?!-----BEGIN).)*?{_TAIL}|(?:[A-Za-z0-9+/=]{{16,}}{_BREAK}*)*", re.DOTALL
)
_WHOLE_BLOCK = re.compile(rf"{_HEAD}.*?(?:{_TAIL}|\Z)", re.DOTALL)
_LONG_WORD = re.compile(r"\S{20,}")
SHORTEST_SECRET = 20  # characters; an AWS access key


def find_secrets(text: str) -> Iterator[tuple[str, str]]:
    """Yield the kind and the text of each key in ``text``, each key once."""
    known: set[str] = set()
    for match in _matches(text):
        if match.group() not in known:
            known.add(match.group())
            yield _NAMES[match.lastgroup or "block"], match.group()


def secret_spans(text: str) -> list[tuple[int, int]]:
    """Return where each key in ``text`` starts and ends, in order; of a block all of it."""
    spans: list[tuple[int, int]] = []
    for match in _matches(text):
        start, end = match.span()
        if spans and start < spans[-1][1]:
            continue
        if match.lastgroup == "block":
            rest = _REST_OF_BLOCK.match(text, text.index("-----", start + 5) + 5)
            end = max(end, rest.end() if rest else end)
        spans.append((start, end))
    return spans


def _matches(text: str) -> Iterator[re.Match[str]]:
    """Yield each key. They hold no white space: only long words are looked at, but for blocks."""
    if "-----BEGIN" in text:
        yield from _SECRET.finditer(text)
        return
    if len(max(text.split(), key=len, default="")) < SHORTEST_SECRET:
        return
    for word in _LONG_WORD.finditer(text):
        yield from _SECRET.finditer(text, *word.span())


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
