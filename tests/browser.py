"""A headless Chromium, spoken to in its own language (the Chrome DevTools Protocol)."""
import base64
import functools
import http.server
import json
import os
import shutil
import subprocess
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import websocket
from conftest import LIMIT_S

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
# Finds elements inside of web components and frames, too, where a plain selector does not look.
FIND = """(() => { const all = [], walk = (root) => { for (const one of root.querySelectorAll('*')) { all.push(one);
  if (one.shadowRoot) walk(one.shadowRoot); if (one.tagName === 'IFRAME' && one.contentDocument) walk(one.contentDocument); } };
  walk(document); return all; })()"""


class _Quiet(http.server.SimpleHTTPRequestHandler):
    """A server of files that says nothing."""

    def log_message(self, *_) -> None:
        pass


@contextmanager
def serve_pages(folder: Path) -> Iterator[dict[str, str]]:
    """Where the pages of a folder are: as files, and from a server."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Quiet, directory=str(folder))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield {"file": f"{folder.as_uri()}/", "http": f"http://127.0.0.1:{server.server_port}/"}
        server.shutdown()


class Browser:
    """One page of a browser."""

    def __init__(self, width: int = 1500, height: int = 1000):
        self.folder = Path(tempfile.mkdtemp())
        self.process = subprocess.Popen(
            [CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0", "--remote-allow-origins=*", "--no-proxy-server",
             f"--user-data-dir={self.folder}", f"--window-size={width},{height}", "about:blank"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        file, end = self.folder / "DevToolsActivePort", time.monotonic() + LIMIT_S
        while not (file.exists() and file.read_text().strip()):
            assert time.monotonic() < end and self.process.poll() is None, "Chromium does not start"
            time.sleep(0.1)
        self.port, self.number, self.events = int(file.read_text().split()[0]), 0, []
        self.socket = websocket.create_connection(self.list_pages()[0]["webSocketDebuggerUrl"], timeout=LIMIT_S)

    def list_pages(self) -> list[dict]:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/json/list", timeout=LIMIT_S) as answer:
            return [page for page in json.load(answer) if page["type"] == "page"]

    def call(self, method: str, **parameters) -> dict:
        self.number += 1
        self.socket.send(json.dumps({"id": self.number, "method": method, "params": parameters}))
        while (answer := json.loads(self.socket.recv())).get("id") != self.number:
            self.events.append(answer)  # what happened meanwhile, of the domains that were enabled
        assert "error" not in answer, answer
        return answer["result"]

    def ask(self, script: str):
        """The value of a piece of JavaScript."""
        result = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in result, result["exceptionDetails"]
        return result["result"].get("value")

    def open(self, link: str) -> None:
        self.call("Page.navigate", url=link)

    def text(self) -> str:
        """All that can be read on the page, in its frames and components, too."""
        return self.ask(f"{FIND}.filter(one => !one.children.length || one.tagName === 'P').map(one => one.textContent).concat(document.body?.innerText ?? '').join('\\n')")

    def wait(self, words: str, patience_s: float = LIMIT_S) -> str:
        """Wait until `words` stand on the page."""
        end = time.monotonic() + patience_s
        while words not in (text := self._try_text()):
            if time.monotonic() > end:
                picture = self.shoot(Path(os.environ.get("ML_REPO_PICTURES", tempfile.gettempdir())) / "does-not-appear.png")
                raise AssertionError(f"{words!r} does not appear in {picture}:\n{text[-2000:]}")
            time.sleep(0.3)
        return text

    def _try_text(self) -> str:
        """The text, or none while one page gives way to the next."""
        try:
            return self.text()
        except AssertionError:
            return ""

    def click(self, words: str, kind: str = "*") -> None:
        """Click the innermost element that says `words`."""
        assert self.ask(f"""(() => {{ const hit = {FIND}.filter(one => one.matches('{kind}') && one.textContent.trim().toLowerCase() === {json.dumps(words.lower())}).pop();
            if (hit) hit.click(); return !!hit; }})()"""), f"nothing says {words!r}"

    def press(self, words: str, kind: str = "*") -> None:
        """Press the mouse where the innermost element says `words`, as a hand would: some elements do not take a click from a program."""
        place = self.ask(f"""(() => {{ const hit = {FIND}.filter(one => one.matches('{kind}') && one.textContent.replace(/\\s+/g, '') === {json.dumps("".join(words.split()))} && one.getClientRects().length).pop();
            if (!hit) return null; hit.scrollIntoView({{block: 'center'}}); const box = hit.getBoundingClientRect(); return [box.x + box.width / 2, box.y + box.height / 2]; }})()""")
        assert place, f"nothing says {words!r}"
        self.press_at(*place)

    def press_at(self, x: float, y: float) -> None:
        for kind in ("mouseMoved", "mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="none" if kind == "mouseMoved" else "left", clickCount=int(kind != "mouseMoved"))

    def shoot(self, path: Path) -> Path:
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"]))
        return path

    def close(self) -> None:
        self.socket.close()
        self.process.terminate()
        self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)
