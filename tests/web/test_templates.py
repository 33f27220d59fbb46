"""Templates keep the promises of web/README.md."""

import re
from pathlib import Path

import pytest

from web import rendering
from web.rendering import STATIC, TEMPLATES, environment

WEB = TEMPLATES.parent
ALL = sorted(path.relative_to(TEMPLATES).as_posix() for path in TEMPLATES.rglob("*.html"))
FRAGMENTS = [name for name in ALL if Path(name).name.startswith("_")]
ICON = re.compile(r"""\bicon\("([a-z0-9-]+)"|icon_button\("[^"]*", "([a-z0-9-]+)\"""")

pytestmark = pytest.mark.skipif(
    not (STATIC / "vendor").is_dir(), reason="web/static/vendor is missing: run `make install`"
)


@pytest.mark.parametrize("name", ALL)
def test_each_template_compiles(name: str) -> None:
    assert environment().get_template(name).name == name


@pytest.mark.parametrize("name", FRAGMENTS)
def test_a_fragments_root_carries_the_name_of_its_file(name: str) -> None:
    wanted = name.removesuffix(".html").replace("/_", "-").replace("/", "-").removeprefix("_")
    wanted = wanted.replace("_", "-")
    text = re.sub(r"\{#.*?#\}", "", (TEMPLATES / name).read_text(), flags=re.DOTALL)
    if text.lstrip().startswith("{% for"):
        return  # rows to append: they have no root of their own
    first = re.search(r"<[a-z][^>]*?id=\"([^\"]+)\"", text, re.DOTALL)
    assert first is not None
    assert first[1] == wanted


@pytest.mark.parametrize("name", ALL)
def test_nothing_inline_that_the_policy_forbids(name: str) -> None:
    text = (TEMPLATES / name).read_text()
    assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son[a-z]+=|hx-on|js:", text)
    assert "|safe" not in text.replace(" ", "")


def test_every_icon_that_a_template_names_is_in_the_sprite() -> None:
    known = set((WEB / "icons.txt").read_text().split())
    texts = [(TEMPLATES / name).read_text() for name in ALL]
    named = {icon for text in texts for pair in ICON.findall(text) for icon in pair if icon}
    assert named <= known


def test_static_addresses_change_with_their_content() -> None:
    address = rendering.static("css/base.css")
    assert re.fullmatch(r"/static/css/base\.css\?v=[0-9a-f]{10}", address)
