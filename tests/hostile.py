"""A notebook that tries everything to run a program, or to fetch something, in the page that shows it. Each attempt calls `ran`."""
import base64
import html.parser
import json
import re
from dataclasses import asdict
from pathlib import Path

import yaml

from ml_repo.records.record import open_record
from ml_repo.records.verdict import keep_verdict
from ml_repo.study.study import STUDIES, Study
from ml_repo.study.trial_log import Trial, note_run, write_trial

SPY = "http://192.0.2.1"  # a network that does not exist (RFC 5737)
MARKDOWN = [
    "<script>ran('markdown script')</script>", "<img src=x onerror=\"ran('markdown onerror')\">", "[click](javascript:ran('link'))", "[click](JaVaScRiPt:ran('link'))", "[click](java&#115;cript:ran(1))",
    "<javascript:ran('autolink')>", "![x](x\" onerror=\"ran('image'))", f"![spy]({SPY}/markdown.png)", f"![spy][1]\n\n[1]: {SPY}/reference.png", "[x](data:text/html,<script>ran(1)</script>)",
    "<a href=\" javascript:ran('blank')\">a</a>", "<details open ontoggle=\"ran('toggle')\"><summary>x</summary></details>", "# <svg onload=ran('heading')>", "```<script>ran('fence')</script>\nx\n```", "```\"><img src=x onerror=ran(1)>\nx\n```",
    "$\\text{<script>ran('tex')</script>}$", "$\\href{javascript:ran('tex')}{x}$", "$$\n\\text{<img src=x onerror=ran('tex')>}\n$$", "\\begin{align}\n\\text{<svg onload=ran(1)>}\n\\end{align}", "a|b\n-|-\n<script>ran('table')</script>|2",
    "<math><mtext><table><mglyph><style><!--</style><img title=\"--&gt;&lt;img src=1 onerror=ran(1)&gt;\">", "<p id=\"theme\" class=\"command\"><code>rm -rf ~</code></p>", "<form action=\"javascript:ran(1)\"><button>Save</button></form>", f"<link rel=stylesheet href={SPY}/a.css>",
    "\ue0000\ue001 <b>\ue0001\ue001</b>", "$x$ <b title=\"&#xE000;0&#xE001; onmouseover=ran(1) \">y</b>", "<base href=\"http://192.0.2.1/\">", "<meta http-equiv=refresh content=\"0;url=javascript:ran(1)\">", "<x onclick=ran(1)>y</x>", "<a href=\"#\" style=\"position:fixed;inset:0\">cover</a>",
]
HTML = [
    "<script>ran('html script')</script>", "<ScRiPt src=data:text/javascript,ran(1)></ScRiPt>", "<img src=x onerror=ran('html')>", f"<img src={SPY}/html.png>", "<svg onload=ran(1)><script>ran(2)</script></svg>", "<iframe srcdoc=\"<script>parent.ran(1)</script>\"></iframe>",
    "<a href=javascript:ran(1)>a</a>", "<a href=\"&#x6a;avascript:ran(1)\">a</a>", "<a href=\"java\tscript:ran(1)\">a</a>", "<form action=javascript:ran(1)><input type=submit></form>", "<input autofocus onfocus=ran(1)>", "<body onload=ran(1)>", "<object data=javascript:ran(1)></object>",
    "<embed src=javascript:ran(1)>", "<video><source onerror=ran(1)></video>", "<style>@import url(http://192.0.2.1/a.css); body { display: none }</style>", f"<div style=\"background: url({SPY}/css.png); position: fixed; inset: 0\">x</div>", "<table><td background=javascript:ran(1)></table>",
    "<noscript><p title=\"</noscript><img src=x onerror=ran(1)>\">", "<template><script>ran(1)</script></template>", "<svg><style><img src=x onerror=ran(1)></style></svg>", "<!--<img src=\"--><img src=x onerror=ran(1)//\">", "<<script>ran(1)//<</script>", "<math><a xlink:href=javascript:ran(1)>x</a></math>",
    "<textarea></textarea><script>ran(1)</script>", "</pre></div></main><script>ran('out of the box')</script>", "<scr<script></script>ipt>ran(1)</script>", "<details ontoggle=ran(1) open><summary>x</summary></details>", "<p onmouseover=ran(1) class=chip id=search>x</p>",
    "<a href=\"data:text/html,<script>ran(1)</script>\">a</a>", "<p title='<img src=\"data:image/png;base64,AAAA\" onerror=ran(1)>'>x</p>", "<img src=\"data:image/png;base64,AAAA\" onerror=ran(1) onload=ran(2)>", "<img srcset=\"http://192.0.2.1/set.png 2x\">", "<select><template shadowrootmode=open><script>ran(1)</script></template></select>",
]
BUNDLES = [
    {"application/javascript": "ran('application/javascript')", "text/plain": "<Javascript>"}, {"text/markdown": "<script>ran('output markdown')</script>[x](javascript:ran(1))"}, {"text/latex": "$\\text{<script>ran('latex')</script>}$"},
    {"image/svg+xml": "<svg xmlns='http://www.w3.org/2000/svg' onload=\"ran('svg')\"><script>ran('svg')</script><image href='http://192.0.2.1/in.svg'/></svg>"}, {"image/png": "\"><script>ran('png')</script>"}, {"image/png\" onerror=\"ran(1)": "AAAA", "text/plain": "x"},
    {"text/html": ["<scr", "ipt>ran('in parts')</scr", "ipt>"]}, {"application/vnd.jupyter.widget-view+json": {"model_id": "x"}, "text/plain": "<widget>"}, {"text/plain": "</pre><script>ran('plain')</script>"}, {"text/html": None}, {"text/html": 5}, {"image/svg+xml": "\"/><script>ran(1)</script>"},
]
STREAMS = ["\x1b[31m<script>ran('ansi')</script>", "\x1b]8;;javascript:ran(1)\x1b\\link\x1b]8;;\x1b\\", "\x1b[38;5;1\"onmouseover=ran(1)m x", "</pre><script>ran('stream')</script>\n" * 60, "<!--", "</script><script>ran(1)</script>"]
NAMES = "</script><script>ran('name')</script>\"'><img src=x onerror=ran(1)>\u2028"


def make_notebook() -> dict:
    """All attempts in one notebook."""
    code = [{"output_type": "display_data", "metadata": {}, "data": {"text/html": one}} for one in HTML] + [{"output_type": "execute_result", "execution_count": 1, "metadata": {}, "data": one} for one in BUNDLES]
    code += [{"output_type": "stream", "name": name, "text": one} for one in STREAMS for name in ("stdout", "stderr")] + [{"output_type": "error", "ename": NAMES, "evalue": NAMES, "traceback": [f"\x1b[31m{NAMES}"]}, {"output_type": NAMES}, None, 7]
    cells = [{"cell_type": "markdown", "metadata": {}, "source": one, "attachments": {"x": {"image/png": "\"><script>ran(1)</script>"}}} for one in MARKDOWN]
    cells += [{"cell_type": "code", "metadata": {"tags": [NAMES]}, "execution_count": NAMES, "source": f"</pre><script>ran('source')</script>\n{NAMES}", "outputs": [one]} for one in code]
    cells += [{"cell_type": "raw", "metadata": {}, "source": "<script>ran('raw')</script>"}, {"cell_type": NAMES, "metadata": {}, "source": NAMES}, {"cell_type": "code", "metadata": [], "source": None, "outputs": "x"}]
    return {"cells": cells, "metadata": {"language_info": {"name": NAMES}, "kernelspec": {"name": NAMES, "display_name": NAMES}}, "nbformat": 4, "nbformat_minor": 5}


def write_hostile(records: Path) -> Path:
    """Write a record that is hostile in every field, too."""
    record = open_record(records, "nbs/evil.ipynb", experiment=NAMES.replace("\u2028", ""), note=NAMES, parameters={NAMES: {"default": 1, "given": NAMES, "used": NAMES}, "lr": {"default": 0.1, "given": 0.3, "used": 0.3}},
                         code={"commit": NAMES, "branch": NAMES, "is_dirty": True, "patch": "code.patch"}, data={NAMES: {"sha256": NAMES}}, machine={"cpu": NAMES}, packages={"list": "0" * 64, "matches_lock": True})
    (record.folder / "evil.ipynb").write_text(json.dumps(make_notebook()))
    (record.folder / "code.patch").write_text(f"+{NAMES}\n")
    (record.folder / "metrics.jsonl").write_text("".join(json.dumps({"step": step, "split": NAMES, "values": {NAMES: step, "loss": 1 / step}}) + "\n" for step in range(1, 5)))
    record.close("completed", metrics=[{"name": NAMES, "split": "", "value": 0.5, "direction": "higher"}, {"name": "accuracy", "split": "validation", "value": 0.7, "direction": "higher"}], warnings=[NAMES],
                 outputs={"files": [{"path": NAMES, "size_bytes": 1, "sha256": "0" * 64}]})
    keep_verdict(record.folder, {"verdict": "differs", "when": NAMES, "where": NAMES, "items": [{"name": NAMES, "verdict": NAMES, "detail": NAMES}], "causes": [{"kind": NAMES, "text": NAMES}], "notes": [NAMES]})
    return record.folder


def write_hostile_study(records: Path, runs: list[str], name: str = NAMES) -> Path:
    """Write a study of runs that is hostile in every text, too."""
    folder = records / STUDIES / "searched"
    folder.mkdir(parents=True)
    study = Study(NAMES, "0" * 64, {"lr": [NAMES, "$x_{$", "b"], name: "0:1"}, {name: NAMES}, {"loss": "lower"}, sampler=NAMES, name="searched", note=NAMES, tags=[NAMES], experiment=NAMES, trials=9)
    (folder / "study.yaml").write_text(yaml.safe_dump(asdict(study)))
    for number, run in enumerate(runs):
        note_run(folder, number, 0, 1, run)
        write_trial(folder, Trial(number, {"lr": [NAMES, "$x_{$", "b"][number % 3], name: number / 10}, "complete", [1 / (number + 1)], runs=[run, NAMES], text=NAMES))
    write_trial(folder, Trial(len(runs), {"lr": "b", name: 0.5}, "failed", text=NAMES))
    return folder

class Finder(html.parser.HTMLParser):
    """Finds what could run, or be fetched from elsewhere, as a parser sees it."""

    def __init__(self, scripts: set[str] = frozenset()):
        super().__init__(convert_charrefs=True)
        self.scripts, self.found, self.inside = scripts, [], False

    def handle_starttag(self, tag, attributes):
        given = {name: re.sub(r"[\x00-\x20]", "", value or "").lower() for name, value in attributes}
        if tag == "script" and dict(attributes).get("src") not in self.scripts:
            self.found.append((tag, given))
        if tag in ("iframe", "object", "embed", "form", "base", "style", "template", "frame", "applet") or (tag == "meta" and given.get("http-equiv") == "refresh"):
            self.found.append((tag, given))
        if tag == "link" and given.get("href") not in ("site.css", "../site.css", "uplot.css", "../uplot.css") and not given.get("href", "").startswith("data:image/svg+xml,%3csvg"):
            self.found.append((tag, given))
        for name, value in given.items():
            if name.startswith("on") or (name in ("href", "src", "action", "formaction", "data", "xlink:href", "srcset", "background", "srcdoc") and (
                    value.startswith(("javascript:", "vbscript:", "data:text")) or (tag != "a" and re.match("(https?:)?//", value)))):
                self.found.append((tag, name, value))
            if name == "style" and re.search(r"url|position|inset|import", value):
                self.found.append((tag, name, value))


def find_dangers(page: str, scripts: set[str]) -> list:
    """What of a page could run or be fetched, apart from the scripts of the site."""
    finder = Finder(scripts)
    finder.feed(page)
    return finder.found


def decode_fragments(data: str) -> list[str]:
    """The HTML that the data of a run carry for comparisons."""
    packed = json.loads(data.partition("] = ")[2].removesuffix(";\n"))
    return [part for cell in packed["cells"] for part in (cell["html"], *cell["outputs"])]


PNG = base64.b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==")
