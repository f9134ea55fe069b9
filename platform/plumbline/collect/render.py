"""Text that a model or a person wrote, as HTML that can do nothing: the only such renderer.

markdown-it-py without raw HTML, then nh3 with a short list of tags. No images (a remote one would
report the reader), no ids, no styles, no attributes that htmx or a browser would act on. Text is
never trusted because of where it came from.
"""

from __future__ import annotations

from functools import lru_cache

import nh3
from django.utils.html import escape
from django.utils.safestring import SafeString, mark_safe
from markdown_it import MarkdownIt

LONGEST = 100_000  # characters; beyond it text is shown as it is
TAGS = {
    *("p", "br", "hr", "h1", "h2", "h3", "h4", "h5", "h6", "ul", "ol", "li", "blockquote", "pre"),
    *("strong", "em", "s", "code", "a", "table", "thead", "tbody", "tr", "th", "td"),
}
_markdown = MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"])
_markdown.disable("image")


@lru_cache(maxsize=2048)
def markdown(text: str) -> SafeString:
    """Safe HTML of markdown text. Links open without a referrer; everything else is inert."""
    if len(text) > LONGEST:
        return mark_safe(f"<pre>{escape(text)}</pre>")
    return mark_safe(
        nh3.clean(
            _markdown.render(text),
            tags=TAGS,
            attributes={"*": set(), "a": {"href"}, "ol": {"start"}},
            set_tag_attribute_values={"a": {"target": "_blank"}},
            url_schemes={"http", "https"},
            url_relative="deny",  # a text may link out, never to a page of this site
            link_rel="noopener noreferrer nofollow",
            strip_comments=True,
        )
    )
