"""The Chinese console is complete, and what is compiled is what was written."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import polib
import pytest

ROOT = Path(__file__).parents[2]
MESSAGES = ROOT / "locale" / "zh_Hans" / "LC_MESSAGES"
PACKAGES = ("config", "fleet", "ota", "bridge", "dashboards")
PLAIN = {"_", "gettext", "gettext_noop", "gettext_lazy", "ngettext", "ngettext_lazy"}
WITH_CONTEXT = {"pgettext", "pgettext_lazy"}
PLACEHOLDER = re.compile(r"%\(\w+\)s|\{\w+\}|</?\w+>")

Key = tuple[str, str]
"""Context ("" for none) and message."""


@pytest.fixture(scope="module")
def catalogue() -> polib.POFile:
    return polib.pofile(str(MESSAGES / "django.po"))


def in_python(path: Path) -> Iterator[Key]:
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
            continue
        words = [arg.value for arg in node.args if isinstance(arg, ast.Constant) and isinstance(arg.value, str)]
        if node.func.id in PLAIN and words:
            yield "", words[0]
        elif node.func.id in WITH_CONTEXT and len(words) >= 2:
            yield words[0], words[1]


def in_template(path: Path) -> Iterator[Key]:
    text = path.read_text()
    for match in re.finditer(r"""\{%\s*translate\s+(?:"([^"]+)"|'([^']+)')""", text):
        yield "", match[1] or match[2]
    for block in re.finditer(
        r"\{%\s*blocktranslate.*?%\}(.*?)(?:\{%\s*plural\s*%\}.*?)?\{%\s*endblocktranslate", text, re.S
    ):
        yield "", re.sub(r"\{\{\s*(\w+)\s*\}\}", r"%(\1)s", block[1])


def used() -> set[Key]:
    found: set[Key] = set()
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            found |= set(in_python(path))
        for path in (ROOT / package).rglob("*.html"):
            found |= set(in_template(path))
    return found


def test_every_text_has_a_chinese_one(catalogue: polib.POFile) -> None:
    known = {(entry.msgctxt or "", entry.msgid) for entry in catalogue}
    texts = used()
    assert len(texts) > 150, "the scan finds the texts"
    assert texts - known == set()


def test_no_text_is_empty_fuzzy_or_left_over(catalogue: polib.POFile) -> None:
    assert [entry.msgid for entry in catalogue if not entry.translated() or entry.fuzzy or entry.obsolete] == []
    assert {(entry.msgctxt or "", entry.msgid) for entry in catalogue} - used() == set()


def test_placeholders_survive_translation(catalogue: polib.POFile) -> None:
    for entry in catalogue:
        for text in [entry.msgstr] if not entry.msgid_plural else entry.msgstr_plural.values():
            assert set(PLACEHOLDER.findall(text)) == set(PLACEHOLDER.findall(entry.msgid)), entry.msgid


def test_what_is_compiled_is_what_is_written(catalogue: polib.POFile) -> None:
    compiled = polib.mofile(str(MESSAGES / "django.mo"))
    assert {(e.msgctxt, e.msgid): (e.msgstr, tuple(e.msgstr_plural.values())) for e in compiled} == {
        (e.msgctxt, e.msgid): (e.msgstr, tuple(e.msgstr_plural.values())) for e in catalogue
    }


def test_the_words_are_the_project_s_own(catalogue: polib.POFile) -> None:
    words = {(entry.msgctxt or "", entry.msgid): entry.msgstr for entry in catalogue}
    assert words["", "Rollouts"] == "灰度发布"
    assert words["arm", "Canary"] == "实验组"
    assert words["install state", "Dark"] == "失联"
    assert words["", "FrameGroup"] == "相框分组"
    assert words["", "DesiredState"] == "期望状态"
