"""The page of attn inspect: whole, harmless, without network; and in a browser, where there is one."""

import base64
import json
import re
import shutil
import subprocess
import zlib
from html.parser import HTMLParser

import numpy as np
import pytest

from attncli.reports.differences import differences
from attncli.reports.heads import HeadFigures, Layer, head_figures
from attncli.reports.highlight import Line, Piece, Shading
from attncli.reports.inspection import Seen, Table, inspection_html, pack

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


class Page(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.tags, self.scripts, self.text, self.inside = [], [], "", None
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.inside = tag
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag):
        self.inside = None

    def handle_data(self, data):
        if self.inside == "script":
            self.scripts[-1] += data
        elif self.inside == "h1":
            self.text += data


def unpacked(layer):
    whole = np.frombuffer(zlib.decompress(base64.b64decode(layer["packed"])), "<i2") / 1000
    return whole.reshape(-1, len(layer["rows"]), len(layer["columns"]))


def seen(name="runs/a", tokens=("the", "dog", "barks"), heads=2, layers=2, seed=0, **more):
    draw = np.random.default_rng(seed)
    found = [
        Layer(f"layer {at + 1}", draw.dirichlet(np.ones(len(tokens)), (heads, len(tokens))), tokens, tokens)
        for at in range(layers)
    ]
    last = Layer("rollout", np.eye(len(tokens))[None], tokens, tokens, "a note")
    return Seen(name, (), [*found, last], head_figures(found), figures={"tokens": len(tokens)}, **more)


def test_the_page_holds_every_map():
    one = seen()
    page = Page(inspection_html("the dog barks", [one]))
    (side,) = json.loads(page.scripts[0])["sides"]
    assert page.text == "the dog barks"
    assert [layer["name"] for layer in side["layers"]] == ["layer 1", "layer 2", "rollout"]
    for layer, told in zip(one.layers, side["layers"], strict=True):
        assert np.allclose(unpacked(told), layer.weights, atol=6e-4)
        assert told["rows"] == list(layer.rows)
    assert [(head["layer"], head["head"]) for head in side["heads"]] == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert "entropy" in side["heads"][0]["said"]


def test_weights_beyond_a_share_are_kept():
    weights = np.array([[[-0.5, 1.5], [40.0, -40.0]]])
    got = np.frombuffer(zlib.decompress(base64.b64decode(pack(weights))), "<i2") / 1000
    assert np.allclose(got, [-0.5, 1.5, 32.767, -32.768])


def test_what_heads_are_worth_stands_in_the_table_where_it_was_measured():
    layer = Layer("layer 1", np.eye(2)[None], "ab", "ab")
    head = HeadFigures(0, 0, 0.5, 0.0, (0, 1), change=0.0123, loss=-0.25)
    text = inspection_html("x", [Seen("r", (), [layer], [head], worth=["Can be pruned: none."])])
    assert "change without it" in text
    assert "0.0123" in text
    assert "\N{MINUS SIGN}0.25" in text
    assert "Can be pruned: none." in text
    assert "change without it" not in inspection_html("x", [seen()])


HOSTILE = [
    "</script><script>alert(1)</script>",
    "<!--<script>",
    "]]>",
    "&lt;",
    "'\"`${x}",
    "\u2028",
    "\\u003c",
]


def hostile(text):
    side = len(HOSTILE)
    layer = Layer(text, np.eye(side)[None], HOSTILE, HOSTILE)
    shading = Shading(text, [Line([Piece(each, 0.5) for each in HOSTILE])], text)
    table = Table(text, [text], [[text]], text)
    return Seen(text, [(text, text)], [layer], head_figures([layer]), [shading], [text], [table])


def test_hostile_text_is_text():
    harmless = Page(inspection_html("a", [hostile("a")]))
    for text in HOSTILE:
        page = Page(inspection_html(text, [hostile(text)]))
        assert [tag for tag, _ in page.tags] == [tag for tag, _ in harmless.tags]
        assert page.scripts[1] == harmless.scripts[1]
        assert page.text == text
        (side,) = json.loads(page.scripts[0])["sides"]
        assert side["layers"][0]["rows"] == HOSTILE
        assert side["layers"][0]["name"] == text
    surrogates = Layer("x", np.eye(1)[None], ["\ud800"], ["\udfff"])
    inspection_html("\ud800", [Seen("r", (), [surrogates])]).encode()


def test_the_page_needs_no_network():
    text = inspection_html("x", [seen(), seen("runs/b")])
    page = Page(text)
    assert "://" not in text
    assert not [attrs for _, attrs in page.tags if {"src", "href"} & set(attrs)]
    (policy,) = [a["content"] for _, a in page.tags if a.get("http-equiv")]
    assert policy == "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'"


def test_words_alone_need_no_script():
    pieces = [Piece("<b>so", 0.5), Piece("שלום", -1.0), Piece("文", 0.25, blank=False)]
    shading = Shading("method & co", [Line(pieces, 0.75)], "a note", signed=True)
    text = inspection_html('"title" <x>', [Seen("r", [("good", "75 %")], shadings=[shading])])
    assert "<script" not in text
    assert "script-src" not in text
    assert "<b>" not in text
    assert "&lt;b&gt;so" in text
    assert text.count('class="n"') == 1
    assert "--w:0.750" in text


def test_two_runs_stand_side_by_side_with_their_differences():
    one, other = seen("runs/a", seed=1), seen("runs/b", seed=1)
    tables = differences(one, other)
    text = inspection_html("x", [one, other], tables)
    assert len(json.loads(Page(text).scripts[0])["sides"]) == 2
    assert 'id="together"' in text
    figures, layers, alike = tables
    assert ["tokens", 3, 3, 0] in figures.rows
    assert "0.000 apart" in figures.note
    assert [row[0] for row in layers.rows] == ["layer 1", "layer 2"]
    assert all(row[3] == row[6] == 0 for row in layers.rows)
    assert [row[2] for row in alike.rows] == [0.0] * 4
    apart = differences(one, seen("runs/c", tokens=("other", "words"), heads=3))
    assert [table.title for table in apart] == ["Side by side", "Layer by layer"]
    assert ["tokens", 3, 2, -1] in apart[0].rows


def test_words_that_weigh_otherwise_are_named():
    def weighed(*weights):
        pieces = [Piece(word, weight) for word, weight in zip("abc", weights, strict=True)]
        return Seen("r", shadings=[Shading("gradient", [Line(pieces)])])

    (table,) = differences(weighed(0.1, 0.2, 0.3), weighed(0.1, 0.9, 0.2))
    assert table.rows[0] == ["b", 0.2, 0.9, pytest.approx(0.7)]
    assert [row[0] for row in table.rows] == ["b", "c", "a"]


DRIVER = """
<script>
addEventListener("error", (event) => { document.title = "failed: " + event.message; });
addEventListener("load", () => setTimeout(() => {
  const told = [];
  document.querySelectorAll(".grid button")[1].click();  // head 1 of layer 1
  const canvas = document.querySelector(".map canvas"), place = canvas.getBoundingClientRect();
  const at = (x, y) => canvas.dispatchEvent(new PointerEvent("pointermove",
    { clientX: place.left + x, clientY: place.top + y }));
  at(2, 2);
  told.push(document.querySelector(".told").textContent);
  told.push(document.querySelectorAll(".map span.on").length);
  told.push([...document.querySelectorAll(".said")].map((line) => line.textContent));
  document.querySelectorAll(".heads tbody tr")[3].click();
  told.push([...document.querySelectorAll(".pick select")].map((box) => box.selectedIndex));
  document.querySelectorAll(".heads th")[2].click();
  const rows = [...document.querySelectorAll(".heads tbody tr")].slice(0, 4);
  told.push(rows.map((row) => row.cells[2].dataset.key));
  told.push(document.documentElement.scrollWidth <= document.documentElement.clientWidth);
  const out = document.createElement("pre");
  out.id = "seen";
  out.textContent = JSON.stringify(told);
  document.body.appendChild(out);
}, 500));
</script>
"""


@pytest.mark.skipif(BROWSER is None, reason="no chromium")
@pytest.mark.parametrize("width", [390, 1400])
def test_the_page_works_in_a_browser(tmp_path, width):
    one, other = seen("runs/a", seed=1), seen("runs/b", seed=2)
    text = inspection_html("日本語 <b>", [one, other], differences(one, other))
    (tmp_path / "page.html").write_text(text.replace("</body>", DRIVER + "</body>"), encoding="utf-8")
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
    command += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
    command += [f"--user-data-dir={tmp_path / 'profile'}", f"--window-size={width},900", "--dump-dom"]
    command += ["--enable-logging=stderr", "--virtual-time-budget=8000"]
    ran = subprocess.run(
        [*command, f"file://{tmp_path}/page.html"], capture_output=True, text=True, timeout=120
    )
    assert "CONSOLE" not in ran.stderr
    assert "<title>failed" not in ran.stdout
    told, lit, said, chosen, order, fits = json.loads(
        re.search(r'<pre id="seen">(.*?)</pre>', ran.stdout, re.DOTALL)[1].replace("&gt;", ">")
    )
    assert told == f"the looks at the: {one.layers[0].weights[0, 0, 0]:.3f}"
    assert lit == 2
    assert all(line.startswith("layer 1, head 1: entropy") for line in said)  # both sides follow
    assert chosen == [1, 2] * 2
    assert order == sorted(order, key=float)
    assert fits
