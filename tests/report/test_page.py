"""The page is one file, says what was measured, and opens in a browser without complaint."""

import hashlib
import html
import json
import os
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from tests.report.synthetic import curve
from tests.report.synthetic_sweeps import shuffled
from tlx import cli
from tlx.records import make_record, save
from tlx.report import page, summary
from tlx.report.questions import QUESTIONS

VOID = {"meta", "link", "br", "img", "hr"}
BROWSERS = ("chromium", "chromium-browser", "google-chrome")  # as launch/test.sh looks for them
CHROMIUM = next(filter(None, map(shutil.which, BROWSERS)), None)
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--enable-logging=stderr",
    "--window-size=900,2000",
)


class Reader(HTMLParser):
    """Collects headings, ids and links, and checks that what is opened is closed."""

    def __init__(self, text):
        super().__init__()
        self.open, self.ids, self.links, self.headings = [], [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        for name, value in attrs:
            if name == "id":
                self.ids.append(value)
            if name in ("href", "src", "xlink:href"):
                self.links.append(value)
        if tag not in VOID:
            self.open.append(tag)
        if tag in ("h1", "h2"):
            self.headings.append("")

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] in ("h1", "h2"):
            self.headings[-1] += data


TITLES = [question.title for question in QUESTIONS.values()]
HEADINGS = ["What is transferred to synthetic digits?", *TITLES, "Appendix"]


def test_headings_and_figures(text):
    read = Reader(text)
    assert read.headings == HEADINGS
    assert [i for i in read.ids if i.startswith("figure-")] == [f"figure-{n}" for n in range(1, 25)]


def test_ids_are_unique_and_links_stay_inside(text):
    read = Reader(text)
    assert len(read.ids) == len(set(read.ids))
    outside = {link for link in read.links if not link.startswith("#")}
    assert {link.split(";base64,")[0] for link in outside} == {"data:,", "data:image/png"}
    assert {link[1:] for link in read.links if link.startswith("#")} <= set(read.ids)
    assert set(re.findall(r"url\(#([^)]+)\)", text)) <= set(read.ids)
    assert "<script" not in text
    assert not re.search(r"(@import|url\((?!#)|src=)", text)


def test_the_answer_comes_before_the_figure(text):
    for section in re.findall(r"<section id=.*?</section>", text, flags=re.DOTALL)[:-1]:
        order = [
            section.index(x) for x in ('class="answer"', "<figure", "In the paper", "<details")
        ]
        assert order == sorted(order)


def test_another_process_without_jax_and_pyplot_gives_the_same_bytes(root, written, tmp_path):
    code = (
        "import sys; sys.modules.update(dict.fromkeys(['jax', 'flax']))\n"
        "import tlx.report.page as p; p.write(sys.argv[1], sys.argv[2])\n"
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    env = dict(os.environ, PYTHONPATH=str(Path(__file__).parents[2]))
    command = [sys.executable, "-c", code, str(root), str(tmp_path / "again.html")]
    subprocess.run(command, check=True, env=env, timeout=120)
    assert (tmp_path / "again.html").read_bytes() == written.read_bytes()
    assert [p.name for p in tmp_path.iterdir()] == ["again.html"]


def test_a_title_of_ones_own():
    assert "<h1>a &lt; b</h1>" in page.render([], title="a < b")


def test_the_appendix_has_config_versions_and_records(text):
    appendix = html.unescape(text[text.index('<section id="appendix">') :])
    assert '"name": "synthetic"' in appendix
    assert '"jax": "0"' in appendix
    assert "Training took 240 seconds in two runs." in appendix
    assert (
        len(re.findall(r"(?<!_)(?:learning_curve|interpolation|mistakes)/[0-9a-f]{16}", appendix))
        == 30
    )


def test_what_the_totals_leave_out_is_said(text):
    assert "The totals leave out: head." in text


def test_no_records_at_all(tmp_path):
    text = page.write(tmp_path, tmp_path / "page.html").read_text(encoding="utf-8")
    assert Reader(text).headings == ["What is transferred?", *HEADINGS[1:]]
    assert "<figure" not in text
    assert text.count("No data: this has not been measured yet.") == len(QUESTIONS)
    with pytest.raises(ValueError, match="the folder does not exist"):
        page.write(tmp_path / "typo", tmp_path / "page.html")


@pytest.mark.parametrize("question", ["distances", "mistakes", "study"])
def test_a_missing_kind_of_record_is_no_data_in_its_section(records, question):
    # One other question beside the study's is enough: the sections do not know each other.
    kept = {"study", "distances", "mistakes"} - {question}
    text = page.render([r for r in records if r.question in kept])
    asked = {QUESTIONS[name].title for name in kept & {"distances", "mistakes"}}
    read = Reader(text)
    assert set(read.headings[1:-1]) == asked
    (paragraph,) = re.findall('<p class="not-asked">(.*?)</p>', text)
    named = html.unescape(paragraph).removeprefix("Not asked in this study, or not measured yet: ")
    assert named == " ".join(title for title in TITLES if title not in asked)
    assert text.count('<li><a href="#') == len(asked)


@pytest.mark.parametrize("done", [1, 11, 22])
def test_an_unfinished_study(records, done):
    Reader(page.render(records[:done]))
    Reader(page.render(records[done - 1 :: 9]))


def test_damaged_and_strange_records_are_listed(tmp_path):
    path = save(tmp_path, curve("P-T", "none", 0))
    path.with_suffix(".npz").write_bytes(b"")
    save(tmp_path, make_record("distance", inputs={"a": "x"}, results={"modules": ["m"]}))
    text = html.unescape(page.write(tmp_path, tmp_path / "p.html").read_text(encoding="utf-8"))
    assert "Records left out or with problems" in text
    assert "damaged or of another record" in text
    assert "distance {'a': 'x'}: is of no kind of the page (nearest: 'distances')" in text


PROBE = """<script>
const rows = [...document.querySelectorAll("figure, .panel svg, table")].map(e => {
  const box = e.getBoundingClientRect();
  return e.tagName.toLowerCase() + " " + Math.round(box.width) + " " + Math.round(box.height);
});
const wide = document.documentElement.scrollWidth - document.documentElement.clientWidth;
document.body.append(Object.assign(document.createElement("pre"),
  {id: "probe", textContent: rows.join("\\n") + "\\noverflow " + wide}));
</script>"""


@pytest.mark.skipif(not CHROMIUM, reason="no chromium on this machine")
def test_in_a_browser(text, tmp_path):
    probed = tmp_path / "probed.html"
    probed.write_text(text.replace("</body>", PROBE + "</body>"), encoding="utf-8")
    command = [CHROMIUM, *FLAGS, f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom"]
    done = subprocess.run(
        [*command, probed.as_uri()], capture_output=True, text=True, timeout=120, check=True
    )
    assert [line for line in done.stderr.splitlines() if "CONSOLE" in line] == []
    headings = re.findall(r"<h[12]>(.*?)</h[12]>", done.stdout)
    assert [html.unescape(h) for h in headings] == HEADINGS
    rows = re.search(r'<pre id="probe">(.*?)</pre>', done.stdout, flags=re.DOTALL)[1].splitlines()
    sizes = [(kind, *map(int, size)) for kind, *size in map(str.split, rows[:-1])]
    figures = [s for s in sizes if s[0] == "figure"]
    panels = [s for s in sizes if s[0] == "svg"]
    assert len(figures) == 24
    assert len(panels) == text.count('class="panel"') == 74
    assert all(width > 600 and height > 200 for _, width, height in figures)
    assert all(width > 300 and height > 200 for _, width, height in panels)
    assert rows[-1] == "overflow 0"


def renamed(path, old, new):
    """Renames the results in a record's files, as if another program had written them."""
    with np.load(path.with_suffix(".npz")) as file:
        arrays = {name.replace(old, new): file[name] for name in file}
    np.savez(path.with_suffix(".npz"), **arrays)
    described = json.loads(path.read_text())
    described["arrays"] = {
        name.replace(old, new): value for name, value in described["arrays"].items()
    }
    packed = path.with_suffix(".npz").read_bytes()
    described["npz_sha256"] = hashlib.sha256(packed).hexdigest()
    path.write_text(json.dumps(described))


def test_a_misspelt_name_is_told_on_the_page_and_in_the_terminal(tmp_path, capsys):
    (tmp_path / "study.json").write_text('{"title": "a study"}')
    renamed(save(tmp_path / "records", shuffled()), "speed", "sped")
    told = (
        "have an unknown name 'sped' (nearest: 'speed'); "
        "the results of 'sweep' have an unknown name 'sped_high' (nearest: 'speed_high')"
    )
    text = html.unescape(page.write(tmp_path / "records", tmp_path / "p.html").read_text("utf-8"))
    assert told in text
    assert "the results of 'sweep' lack speed, speed_high, speed_low, speed_p, speed_p_holm" in text
    assert told in re.sub(r"\s+", " ", summary.text(tmp_path / "records"))
    assert cli.main(["report", f"--workdir={tmp_path}"]) == 0
    out = capsys.readouterr()
    assert out.out == f"{tmp_path / 'report.html'}\n"
    assert out.err.startswith("tlx report: record ")
    assert told in out.err
