"""Optuna's dashboard in a browser: alone and as a tile of JupyterLab, and without a request to anywhere else."""
import time
from pathlib import Path

import pytest
from browser import CHROMIUM, Browser
from conftest import checked
from test_views import Ui, await_end, jupyterlab, save

from ml_repo.study.study import Study, _write_study
from ml_repo.study.trial_log import Trial, write_trial

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not CHROMIUM, reason="needs Chromium")]
REQUESTED = "performance.getEntriesByType('resource').map(one => new URL(one.name).host).filter(host => host)"


@pytest.fixture
def project(tmp_path) -> Path:
    """A repository with a study."""
    (tmp_path / "settings.ini").write_text("[DEFAULT]\npapermill_engine = ml_repo\n")
    checked("git", "init", "--quiet", cwd=tmp_path)
    folder = tmp_path / "experiments" / ".studies" / "step-size"
    folder.mkdir(parents=True)
    _write_study(folder, Study("nbs/train.ipynb", "0" * 64, {"lr": "log:1e-4:1e-1", "units": "32,64"}, metrics={"val_accuracy": "higher"}, name="step-size"))
    for number in range(12):
        write_trial(folder, Trial(number, {"lr": 10 ** -(1 + number / 4), "units": 32 * (1 + number % 2)}, "complete", [0.9 - abs(number - 6) / 50], runs=[f"train-{number}"]))
    return tmp_path


def look(browser: Browser, link: str, name: str, folder: Path) -> None:
    """Go from the list of studies to the pictures of one, and ask nobody else."""
    browser.open(link)
    browser.wait("step-size")
    browser.open(link.partition("dashboard")[0].rstrip("/") + "/dashboard/studies/1")
    browser.wait("Best Trial")
    time.sleep(4)
    save(browser, f"{name}.png", folder)
    assert browser.ask("document.querySelectorAll('.js-plotly-plot').length") >= 2
    host = browser.ask("location.host")
    assert set(browser.ask(REQUESTED)) <= {host}, browser.ask(REQUESTED)


def test_alone(project, tmp_path):
    ui, browser = Ui(project, "optuna"), Browser()
    try:
        look(browser, ui.links[0], "optuna", tmp_path)
        family = ui.family()
    finally:
        browser.close()
        assert ui.end() == 0
    await_end(family)


def test_with_the_others(project):
    ui = Ui(project, count=3)
    assert "Optuna" in ui.printed()
    assert ui.end() == 0


def test_behind_jupyterlab(project, tmp_path):
    browser = Browser()
    try:
        with jupyterlab(project, tmp_path, "/user/anna/") as (_, link):
            browser.open(link + "lab?token=secret")
            browser.wait("Optuna")
            time.sleep(2)
            save(browser, "launcher-optuna.png", tmp_path)
            look(browser, link + "optuna/dashboard", "optuna-tile", tmp_path)
    finally:
        browser.close()
