"""Notebooks as other people write them, each with what papermill is told to run it with."""
import json
import re
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

PYTHON = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}, "language_info": {"name": "python"}}


@dataclass
class Stranger:
    """A notebook, and the options of papermill that its author uses."""

    cells: list[dict[str, Any]]
    options: list[str] = field(default_factory=list)  # of papermill; what `ml-repo run` has, too, is given to it as well
    files: dict[str, str] = field(default_factory=dict)  # beside the notebook
    metadata: dict[str, Any] = field(default_factory=lambda: PYTHON)
    version: tuple[int, int] = (4, 5)  # of the format
    needs: str = ""  # a module that must be installed
    is_usual: bool = False  # run by default, and not only with the slow tests
    text: str = ""  # of the whole file, where it cannot be built from cells

    def write(self, folder: Path) -> Path:
        """Write the notebook and its files."""
        folder.mkdir(parents=True)
        for name, text in self.files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text)
        major, minor = self.version
        notebook = {"cells": self.cells, "metadata": self.metadata, "nbformat": major, "nbformat_minor": minor}
        if self.version >= (4, 5):
            for number, cell in enumerate(self.cells):
                cell.setdefault("id", f"cell-{number}")
        (folder / "a.ipynb").write_text(self.text or json.dumps(notebook))
        return folder / "a.ipynb"


def code(source: Any, *tags: str, **more: Any) -> dict[str, Any]:
    """Build a code cell, with its tags."""
    return {"cell_type": "code", "execution_count": None, "outputs": [], "source": source, "metadata": {"tags": list(tags)} if tags else {}} | more


def given(source: str, *sources: str, options: str = "", **more: Any) -> Stranger:
    """Build a notebook whose first cell is tagged `parameters`."""
    return Stranger([code(source, "parameters"), *map(code, sources)], options.split(), **more)


def plain(*sources: str, **more: Any) -> Stranger:
    """Build a notebook of code cells without a tag."""
    return Stranger(list(map(code, sources)), **more)


def without(cell: dict[str, Any], *names: str) -> dict[str, Any]:
    """Drop fields of a cell."""
    return {name: value for name, value in cell.items() if name not in names}


OLD = json.dumps({"metadata": {"name": "old", "kernelspec": PYTHON["kernelspec"]}, "nbformat": 3, "nbformat_minor": 0, "worksheets": [{"metadata": {}, "cells": [
    {"cell_type": "heading", "level": 1, "metadata": {}, "source": ["Old"]},
    {"cell_type": "code", "collapsed": False, "input": ["print(6 * 7)"], "language": "python", "metadata": {}, "outputs": [], "prompt_number": 1}]}]})

STRANGERS = {
    # parameters as most notebooks have them
    "plain assignments": given("x = 4\nname = None", "print(x, name)", is_usual=True),
    "plain assignments, given": given("x = 4\nname = None\nlr = 0.1", "print(x + 1, name, lr)", options="-p x 5 -p name me -p lr 1", is_usual=True),
    "another type than the default's": given("x = 4", "print(repr(x))", options="-p x 0.5"),
    "a name that is not there": given("x = 4", "print(x, y)", options="-p y 5"),
    "typed": given("x: int = 4  # at least 1\nname: str = 'a'", "print(x, name)", options="-p x 5"),
    "types that papermill shows only": given("import numpy as np\nfrom typing import List\nx: np.float32 = 4\ny: 'List[int]' = [1]", "print(x, y)", options="-p x 5"),
    "types of newer Pythons": given("x: int | None = None\ny: tuple[int, ...] = (1, 2)", "print(x, y)", options="-p x 3"),
    "a default that its type does not allow": given("x: int = None", "print(x)", options="-p x 5"),
    "computed values": given("import os\nfrom pathlib import Path\nn = 4\nm = 2 * n\nout = Path('a') / 'b'\nhome = os.path.join('x', 'y')", "print(n, m, out, home)", options="-p n 5"),
    "several names at once": given("a, b = 1, 'two'\nc = d = 3\n(e, [f, *g]) = 4, [5, 6, 7]", "print(a, b, c, d, e, f, g)", options="-p a 8 -p d 9"),
    "comments that look like bounds": given("n = 10  # below 5 is too noisy\nmode: str = 'x'  # not above 3\nk: int = 7  # above 10 it is slow", "print(n, mode, k)", options="-p n 20"),
    "statements among the parameters": given("'''What to set'''\nimport math\nprint('begin')\nx = 4\nx += 1\nif x > 3:\n    y = math.floor(2.5)\nfor i in range(2): pass\ndef f(): return x\nassert x", "print(x, y, f())", options="-p y 7"),
    "magics among the parameters": given("%matplotlib inline\nx = 4\n!echo from a shell\nfiles = !echo a b", "print(x, list(files))", options="-p x 5", needs="matplotlib"),
    "a timed cell of parameters": given("%%capture kept\nx = 4\nprint('hidden')", "print(x, kept.stdout)", options="-p x 5"),
    "the same name twice": given("x = 4\nx = 5", "print(x)", options="-p x 6"),
    "an empty cell of parameters": given("", "print(x)", options="-p x 5"),
    "a comment alone": given("# nothing yet", "print(x)", options="-p x 5"),
    "two cells of parameters": Stranger([code("x = 4", "parameters"), code("y = 2", "parameters"), code("print(x, y)")], ["-p", "x", "5", "-p", "y", "6"]),
    "two cells of parameters, nothing given": Stranger([code("x = 4", "parameters"), code("y = 2", "parameters"), code("print(x, y)")]),
    "no cell of parameters, given": plain("x = 4", "print(x, y)", options=["-p", "y", "5"], is_usual=True),
    "parameters in a text cell": Stranger([{"cell_type": "markdown", "metadata": {"tags": ["parameters"]}, "source": "x = 4"}, code("print(x)")], ["-p", "x", "5"]),
    "an earlier injected cell": Stranger([code("x = 4", "parameters"), code("# Parameters\nx = 5\n", "injected-parameters"), code("print(x)")], ["-p", "x", "6"]),
    "a file of values": given("start = '2020-01-01'\nlr = 0.1\nnames = []\ndeep = {}", "print(repr(start), repr(lr), names, deep)", options="-f v.yaml", is_usual=True,
                             files={"v.yaml": "start: 2021-02-03\nlr: 1e-3\nnames: [a, 2, 2021-02-03, yes, ~]\ndeep: {1: {b: 0o17}, when: 2001-12-14t21:59:43.10-05:00, c: 1_000, d: .inf, e: 012}\n"}),
    "a JSON file of values": given("x = 4", "print(x)", options="-f v.json", files={"v.json": '{"x": [1, 2.5, "a", null, true]}'}),
    "a file of no values": given("x = 4", "print(x)", options="-f v.yaml", files={"v.yaml": "# nothing\n"}),
    "anchors and merged keys": given("a = b = None", "print(a, b)", options="-f v.yaml", files={"v.yaml": "a: &d {x: 1, y: 2}\nb:\n  <<: *d\n  y: 3\n"}),
    "values in the command": given("x = 4\ny = 5\nz = 6\nr = 7", "print(x, y, z, repr(r))", options="-y {x:[1,2]} -b eTogNw== -r r 007 -p z 1e-3"),
    "paths put in": given("x: int = 4", "print(x, PAPERMILL_INPUT_PATH, PAPERMILL_OUTPUT_PATH)", options="--inject-paths"),
    "texts that must be quoted": given("text = ''\nmore = ''", "print(repr(text), repr(more))", files={"v.yaml": 'text: "a\\"b\\\\c\\n\'d\' ü \\u2028 {x}"\nmore: "\\ttab"\n'}, options="-f v.yaml"),

    # displays
    "a display updated later": plain("from IPython.display import display\nh = display('begin', display_id=True)", "for i in range(3):\n    h.update(f'step {i}')", is_usual=True),
    "a display updated among prints": plain("from IPython.display import display\nprint('a')\nprint('b')\nh = display('begin', display_id=True)\nprint('c', flush=True)\nprint('d')",
                                            "print('e')\nh.update('end')\nprint('f')\nh.display('again')\nh.update('last')"),
    "a display in two cells": plain("from IPython.display import display\ndisplay('one', display_id='k');", "display('two', display_id='k');", "from IPython.display import update_display\nupdate_display('three', display_id='k')"),
    "an output cleared": plain("from IPython.display import clear_output, display\nprint('gone')\nclear_output()\nprint('a')\nclear_output(wait=True)\nprint('b')\nh = display('x', display_id=True)\nclear_output(wait=True)\ndisplay('y')\nh.update('z')",
                               "h.update('w')", is_usual=True),
    "an updated display of many kinds": plain("from IPython.display import HTML, display\nh = display(HTML('<b>1</b>'), metadata={'a': 1}, display_id=True)", "h.update(HTML('<i>2</i>'), metadata={'b': 2})"),
    "a progress bar": plain("from tqdm.auto import tqdm\nimport sys\nfor i in range(3):\n    print(i)\n    print(-i, file=sys.stderr)"),
    "widgets": plain("import ipywidgets as w\ns = w.IntSlider(value=3)\ns", "s.value = 5\no = w.Output()\nwith o:\n    print('inside')\no", needs="ipywidgets"),
    "figures": plain("%matplotlib inline\nimport matplotlib.pyplot as plt\nplt.plot([1, 2])\nplt.title('a');", "f, a = plt.subplots(figsize=(1, 1))\na.bar([1], [2])\nplt.show()\nprint(plt.get_backend())", needs="matplotlib"),
    "tables": plain("import pandas as pd\npd.DataFrame({f'c{i}': range(3) for i in range(24)})", "pd.get_option('display.max_columns')", needs="pandas"),
    "rich text": plain("from IPython.display import Markdown, Latex, JSON, SVG, display\ndisplay(Markdown('*a*'), Latex('$a$'), JSON({'a': [1]}))\nSVG('<svg xmlns=\"http://www.w3.org/2000/svg\"/>')"),

    # magics
    "magics": plain("%%bash\necho from bash\necho to stderr >&2", "%%capture got\nprint('caught')", "print(got.stdout)\n!echo a; echo b >&2", "%%writefile mod.py\nx = 3", "%run mod.py\nprint(x)\n%load_ext autoreload\n%autoreload 2",
                    "import mod\nprint(mod.x)\n%env MY_OWN=5\n%who_ls", "%%html\n<b>x</b>", "%%python3\nprint('another process')", is_usual=True),
    "a magic that is not there": plain("print('a')", "%no_such_magic", "print('b')"),
    "awaiting": plain("import asyncio\nasync def f():\n    await asyncio.sleep(0.01)\n    return 5\nawait f()", "asyncio.get_running_loop().is_running()\n[await f() for _ in range(2)]"),
    "what IPython remembers": plain("5 + 5", "_ + 1", "print(_1, Out[2], In[1], _i1)\nget_ipython().execution_count"),
    "help asked for": plain("len?", "print('next')"),
    "the next cell set": plain("get_ipython().set_next_input('x = 1')", "print(2)"),

    # errors and ends
    "an error": plain("print('a')", "1 / 0", "print('never')"),
    "an error that is expected": Stranger([code("1 / 0", "raises-exception"), code("print('goes on')")]),
    "a syntax error": plain("x = = 1", "print(1)"),
    "input": plain("x = input('name? ')", "print(x)"),
    "an end by sys.exit": plain("import sys\nprint('a')\nsys.exit()", "print('never')"),
    "an end by sys.exit(1)": plain("import sys\nsys.exit(1)", "print('never')"),
    "a kernel that ends": plain("import os\nprint('a', flush=True)\nos._exit(3)", "print('never')"),
    "a chain of errors": plain("def f():\n    raise ValueError('inner')\ntry:\n    f()\nexcept ValueError as e:\n    raise RuntimeError('outer') from e"),
    "a group of errors": plain("raise ExceptionGroup('both', [ValueError(1), KeyError('a')])"),
    "a warning": plain("import warnings\nwarnings.warn('mind')\nimport logging\nlogging.warning('logged')\nprint('end')"),
    "a time limit": plain("import time\nprint('a', flush=True)\ntime.sleep(60)", "print('never')", options=["--execution-timeout", "2"]),

    # cells and files of other makes
    "a skipped cell": Stranger([code("1 / 0", "skip-execution"), code("print('b')")]),
    "a raw cell": Stranger([{"cell_type": "raw", "metadata": {}, "source": "raw"}, {"cell_type": "markdown", "metadata": {}, "source": ["# a\n", "b"]}, code(["x = 1\n", "print(x)"])], is_usual=True),
    "no cells": Stranger([]),
    "empty cells": plain("", "  \n", "# a comment", "print(1)"),
    "a cell without source": Stranger([without(code(""), "source"), code("print(1)")]),
    "a text cell without source": Stranger([{"cell_type": "markdown", "metadata": {}}, code("print(1)")]),
    "a cell without outputs": Stranger([without(code("print(1)"), "outputs")]),
    "a cell without execution_count": Stranger([without(code("print(1)"), "execution_count")]),
    "a cell without metadata": Stranger([without(code("print(1)"), "metadata")]),
    "cells without ids": Stranger([code("print(1)") | {"id": "same"}, code("print(2)") | {"id": "same"}], version=(4, 5)),
    "tags that are no list": Stranger([code("print(1)", metadata={"tags": None})]),
    "version 4.0": Stranger([code("print(1)", "parameters")], version=(4, 0), is_usual=True),
    "version 4.4 with old outputs": Stranger([code("print(1)", outputs=[{"output_type": "stream", "name": "stdout", "text": ["old\n"]}], execution_count=7)], version=(4, 4)),
    "version 4.9": Stranger([code("print(1)")], version=(4, 9)),
    "version 3": Stranger([], text=OLD),
    "more metadata": Stranger([code("print(1)", metadata={"collapsed": True, "colab": {"id": "x"}, "jupyter": {"source_hidden": True}, "slideshow": {"slide_type": "slide"}})],
                              metadata=PYTHON | {"colab": {"provenance": []}, "accelerator": "GPU", "toc": {"nav_menu": {}}, "widgets": {}}),
    "no kernelspec": plain("print(1)", metadata={"language_info": {"name": "python"}}),
    "no metadata": plain("print(1)", metadata={}),
    "no kernelspec, -k": plain("print(1)", metadata={}, options=["-k", "python3"]),
    "no kernelspec, -k and values": given("x = 1", "print(x)", metadata={"language_info": {"name": "python"}}, options="-k python3 -p x 2"),
    "no language": plain("print(1)", metadata={"kernelspec": {"name": "python3", "display_name": "x"}}),
    "no language, values": given("x = 1", "print(x)", metadata={"kernelspec": {"name": "python3", "display_name": "x"}}, options="-p x 2"),
    "a kernel that is not installed": plain("print(1)", metadata={"kernelspec": {"name": "conda-env-ml-py", "display_name": "x", "language": "python"}}),
    "a kernel that is not installed, -k": plain("print(1)", metadata={"kernelspec": {"name": "conda-env-ml-py", "display_name": "x", "language": "python"}}, options=["-k", "python3"]),
    "bash": Stranger([code("x=4", "parameters"), code("echo $x")], ["-p", "x", "5"], metadata={"kernelspec": {"name": "bash", "display_name": "Bash", "language": "bash"}, "language_info": {"name": "bash"}}, needs="bash_kernel"),
    "bash, no tag": Stranger([code("echo 1"), code("ls no-such-file"), code("echo 2")], metadata={"kernelspec": {"name": "bash", "display_name": "Bash", "language": "bash"}, "language_info": {"name": "bash"}}, needs="bash_kernel"),

    # amounts
    "ten megabytes of text": plain("for _ in range(100): print('x' * 99_999)", "print('end')"),
    "a hundred thousand short lines": plain("for i in range(100_000): print(i)"),
    "text from C and children": plain("import os, subprocess, sys\nprint('a', flush=True)\nos.write(1, b'from fd 1\\n')\nsubprocess.run(['echo', 'from a child'])\nsys.stdout.flush()"),
    "threads that print": plain("import threading\ndef f():\n    print('thread')\nt = threading.Thread(target=f); t.start(); t.join()"),
    "odd characters": plain("print('ü€😀\\u2028\\x00\\x1b[31mred\\x1b[0m')\nprint('50%\\r100%')\n'\\ud83d'"),
    "processes": plain("%%writefile work.py\ndef f(x): return x * x", "from concurrent.futures import ProcessPoolExecutor\nimport work\nwith ProcessPoolExecutor(2) as p: print(list(p.map(work.f, range(3))))"),
    "what is beside it": plain("import helper\nprint(helper.x, open('data.csv').read())", files={"helper.py": "x = 4\n", "data.csv": "a,b\n"}),
    "another folder": plain("import os\nprint(os.path.basename(os.getcwd()), open('d.txt').read())", files={"sub/d.txt": "here"}, options=["--cwd", "sub"]),
    "a report": given("x = 1", "print(x)", options="--report-mode -p x 2"),
    "prepared only": given("x = 1", "print(x)", options="--prepare-only -p x 2"),
    "no saving": plain("print(1)", options=["--no-request-save-on-cell-execute", "--autosave-cell-every", "0"]),
    "logged": plain("print('a')\n5", options=["--log-output", "--no-progress-bar", "--log-level", "DEBUG"]),
    "its texts in files": plain("import sys\nprint('out')\nprint('err', file=sys.stderr)", options=["--stdout-file", "out.txt", "--stderr-file", "err.txt"]),
    "a slow start": plain("print(1)", options=["--start-timeout", "120"]),
}

MORE = ("a cell without source", "a text cell without source", "no kernelspec", "no metadata", "no language, values")  # run here, and papermill refuses them
FATAL = ("a magic that is not there", "a kernel that ends", "a group of errors", "a time limit")  # the executed notebook says more about the end than papermill's

RUN_HAS = {"-p": 2, "-f": 1, "-k": 1, "--execution-timeout": 1, "--cwd": 1}  # options of papermill that `ml-repo run` has, and how many values each takes


def find_installed() -> list[str]:
    """List the notebooks whose libraries are installed."""
    return [name for name, stranger in STRANGERS.items() if not stranger.needs or find_spec(stranger.needs)]


def find_options(stranger: Stranger) -> list[str] | None:
    """Write the options for `ml-repo run`, or None where it has no such option."""
    words, options = list(stranger.options), []
    while words:
        name = words.pop(0)
        if name not in RUN_HAS:
            return None
        values = [words.pop(0) for _ in range(RUN_HAS[name])]
        options += ["--timeout" if name == "--execution-timeout" else name, *values]
    return options


def read_outputs(notebook: Path) -> list[Any]:
    """Read what an executed notebook shows, without what every run has its own of."""
    found = []
    for cell in json.loads(notebook.read_text())["cells"]:
        if "papermill-error-cell-tag" in cell["metadata"].get("tags", []):
            continue
        outputs: list[Any] = []
        for output in cell.get("outputs", []):
            kind = output["output_type"]
            if kind == "stream":
                text = "".join(output["text"])
                if outputs and outputs[-1][:2] == ["stream", output["name"]]:
                    outputs[-1][2] += text
                else:
                    outputs.append(["stream", output["name"], text])
            elif kind == "error":
                outputs.append([kind, output["ename"], output["evalue"], "".join(output["traceback"])])
            else:
                outputs.append([kind, {name: text if isinstance(text, dict) else "".join(text) for name, text in output["data"].items()}, output["metadata"], output.get("execution_count")])
        found.append([cell["cell_type"], "".join(cell.get("source", "")), cell.get("execution_count"), cell["metadata"].get("tags", []), outputs])
    text = json.dumps(found)
    text = re.sub(r"[0-9a-f]{32}", "ID", re.sub(r"ipykernel_\d+/\d+\.py|/tmp/ipykernel_\d+", "KERNEL", text))
    return json.loads(re.sub(r"0x[0-9a-f]{6,}", "ADDRESS", text))


def read_door(door: str, folder: Path, stranger: Stranger) -> list[Any] | None:
    """Run a notebook by one command, in this process; returns its exit status, outputs and the end of what it printed, or None where the command has no such option."""
    import contextlib
    import io
    import logging
    import os
    import traceback

    from papermill.cli import papermill

    from ml_repo.cli.app import main

    options = find_options(stranger) if door == "ml-repo run" else stranger.options
    if options is None:
        return None
    stranger.write(folder)
    if door != "plain papermill":
        (folder / "settings.ini").write_text("[DEFAULT]\npapermill_engine = ml_repo\n")
    command = ["run", "a.ipynb"] if door == "ml-repo run" else ["a.ipynb", "o.ipynb", *(["--engine", "nbclient"] if door == "plain papermill" else [])]
    os.chdir(folder)
    logging.root.handlers.clear()
    printed, status = io.StringIO(), 0
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        try:
            (main if door == "ml-repo run" else papermill)([*command, *options])
        except SystemExit as end:
            status = end.code or 0
        except BaseException:
            status = 1
            traceback.print_exc()
    executed = next((folder / "experiments").glob("a-*/a.ipynb"), None) if door == "ml-repo run" else folder / "o.ipynb"
    return [status, read_outputs(executed) if executed and executed.exists() else None, printed.getvalue()[-2000:]]


if __name__ == "__main__":  # FOLDER NAME…: run these notebooks by three commands, and write what each gave as JSON
    import sys

    base = Path(sys.argv[1])
    doors = {name: {door: read_door(door, base / str(number) / door, STRANGERS[name]) for door in ("plain papermill", "papermill", "ml-repo run")}
             for number, name in enumerate(sys.argv[2:])}
    (base / "doors.json").write_text(json.dumps(doors))
