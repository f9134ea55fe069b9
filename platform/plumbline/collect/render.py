"""Text that a model or a person wrote, as HTML that can do nothing: the only such renderer.

markdown-it-py without raw HTML, then nh3 with a short list of tags. No images (a remote one would
report the reader), no ids, no styles, no attributes that htmx or a browser would act on; classes
only those of highlighted code. Formulas are put in after cleaning, as MathML of a list of its own.
Text is never trusted because of where it came from.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import nh3
from django.utils.html import escape
from django.utils.safestring import SafeString, mark_safe
from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.ruler import RuleOptionsType
from markdown_it.rules_block import StateBlock
from markdown_it.rules_inline import StateInline
from markdown_it.token import Token
from markdown_it.utils import EnvType, OptionsDict
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import get_lexer_by_name
from pygments.token import STANDARD_TYPES

from plumbline.collect import formulas

LONGEST = 100_000  # characters; beyond it text is shown as it is
LONGEST_CODE = 20_000  # characters of one block that are highlighted
TAGS = {
    *("p", "br", "hr", "h1", "h2", "h3", "h4", "h5", "h6", "ul", "ol", "li", "blockquote", "pre"),
    *("strong", "em", "s", "code", "a", "table", "thead", "tbody", "tr", "th", "td", "span"),
}
CODE_CLASSES = set(STANDARD_TYPES.values()) - {""}
# Of Pygments' hundreds, those that people write and that are quick on any text.
LANGUAGES = {
    *("python", "py", "javascript", "js", "typescript", "ts", "json", "bash", "sh", "shell"),
    *("html", "xml", "css", "sql", "c", "cpp", "c++", "csharp", "cs", "java", "go", "rust", "rs"),
    *("ruby", "rb", "php", "yaml", "toml", "diff", "kotlin", "swift", "r", "lua", "haskell"),
}
FENCES = (("$$", "$$"), ("\\[", "\\]"))
INLINE = re.compile(
    r"\$\$(?P<block>.+?)\$\$|\\\[(?P<bracket>.+?)\\\]|\\\((?P<paren>.+?)\\\)"
    r"|\$(?P<dollar>[^\s$](?:[^$\n]*?[^\s$\\])?)\$(?!\d)",
    re.DOTALL,
)
# With its slashes: without them a browser takes the rest for a path of the site it is on.
OUTWARD = re.compile(r"https?://", re.IGNORECASE)
_formatter = HtmlFormatter(nowrap=True)


@lru_cache(maxsize=2048)
def markdown(text: str) -> SafeString:
    """Safe HTML of markdown text. Links open without a referrer; everything else is inert."""
    if len(text) > LONGEST:
        return mark_safe(f"<pre>{escape(text)}</pre>")
    # What stands for a formula until the cleaning is over; no text can guess it.
    env: dict[str, Any] = {"mark": secrets.token_hex(12), "formulas": []}
    cleaned = nh3.clean(
        _markdown.render(text, env),
        tags=TAGS,
        attributes={"*": set(), "a": {"href"}, "ol": {"start"}},
        allowed_classes={"span": CODE_CLASSES},
        # A wide table scrolls, so the keyboard must reach it.
        set_tag_attribute_values={"a": {"target": "_blank"}, "table": {"tabindex": "0"}},
        url_schemes={"http", "https"},
        url_relative="deny",  # a text may link out, never to a page of this site
        link_rel="noopener noreferrer nofollow",
        strip_comments=True,
    )
    for n, (latex, block) in enumerate(env["formulas"]):
        cleaned = cleaned.replace(f"{env['mark']}x{n}x", formulas.mathml(latex, block=block))
    return mark_safe(cleaned)


def _highlight(code: str, language: str, _attributes: str) -> str:
    """A fenced block's inside; "" leaves it to markdown-it, which escapes it."""
    if language.lower() not in LANGUAGES or len(code) > LONGEST_CODE:
        return ""
    return str(highlight(code, get_lexer_by_name(language.lower()), _formatter))


def _inline_formula(state: StateInline, silent: bool) -> bool:
    if state.src[state.pos] not in "$\\":
        return False
    found = INLINE.match(state.src, state.pos, state.posMax)
    if found is None:
        return False
    if not silent:
        token = state.push("formula", "math", 0)
        token.content = next(group for group in found.groups() if group is not None)
        token.block = found["block"] is not None or found["bracket"] is not None
    state.pos = found.end()
    return True


def _fenced_formula(state: StateBlock, start: int, end: int, silent: bool) -> bool:
    """`$$` or `\\[` on a line, up to its end mark, so that no line within reads as a list."""
    first = state.src[state.bMarks[start] + state.tShift[start] : state.eMarks[start]]
    ends = [close for opening, close in FENCES if first.strip() == opening]
    if not ends or state.is_code_block(start):
        return False
    for line in range(start + 1, end):
        if state.src[state.bMarks[line] : state.eMarks[line]].strip() == ends[0]:
            break
    else:
        return False
    if not silent:
        token = state.push("formula", "math", 0)
        token.content = state.getLines(start + 1, line, state.tShift[start], False)
        token.block = True
        state.line = line + 1
    return True


def _put_mark(
    _self: RendererHTML, tokens: Sequence[Token], at: int, _options: OptionsDict, env: EnvType
) -> str:
    env["formulas"].append((tokens[at].content, tokens[at].block))
    return f"{env['mark']}x{len(env['formulas']) - 1}x"


def _leads_out(url: str) -> bool:
    return OUTWARD.match(url) is not None


def _parser() -> MarkdownIt:
    parser = MarkdownIt("commonmark", {"html": False, "highlight": _highlight})
    parser.enable(["table", "strikethrough"]).disable("image")
    parser.inline.ruler.before("escape", "formula", _inline_formula)
    interrupts: RuleOptionsType = {"alt": ["paragraph", "blockquote", "list"]}
    parser.block.ruler.before("fence", "formula", _fenced_formula, interrupts)
    parser.add_render_rule("formula", _put_mark)
    parser.validateLink = _leads_out  # type: ignore[method-assign]
    return parser


_markdown = _parser()
