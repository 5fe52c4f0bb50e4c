"""Trials on a real cluster of Ray: the same as here, and none lost with a machine that is killed or shares no folder."""
import os
import shutil
import signal
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import BIN, LIMIT_S, await_true
from test_study import METRIC, SPACE, ml_repo, project, read_runs, read_values, start, study_folder, tune

from ml_repo.study.trial_log import read_trials

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]
SMALL = {"object_store_memory": 80 * 2**20, "node_ip_address": "127.0.0.1"}
RANDOM = (*SPACE, *METRIC, "--sampler", "random")


def start_cluster() -> Iterator:
    """Three machines, the first of which takes no trials."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    pytest.importorskip("ray", reason="needs Ray: make RAY=1 test-all")
    from ray.cluster_utils import Cluster

    folder = tempfile.mkdtemp(prefix="ray-")  # short, since sockets lie in it
    found = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False, "temp_dir": folder, **SMALL})
    found.machines = [found.add_node(num_cpus=1, **SMALL) for _ in range(2)]
    yield found
    found.shutdown()
    shutil.rmtree(folder, ignore_errors=True)


cluster = pytest.fixture(scope="module")(start_cluster)
broken_cluster = pytest.fixture(start_cluster)


def outcomes(root: Path) -> list[tuple]:
    return [(one.number, one.values, one.state, one.objectives) for one in read_trials(study_folder(root))]


def count_complete(root: Path) -> Counter:
    """How many complete runs each trial has."""
    return Counter(one["study"]["trial"] for one in read_runs(root) if one["state"] == "completed")


def test_the_same_as_here(project, cluster, tmp_path_factory):
    printed = tune(project, *RANDOM, "--trials", "6", "--ray", cluster.address)
    assert "6 of 6 done" in printed and "dashboard" not in printed
    assert all(one["kernel"]["warm"] for one in read_runs(project)), [one["warnings"] for one in read_runs(project)]
    far = outcomes(project)
    assert count_complete(project) == dict.fromkeys(range(6), 1)
    tune(project, *RANDOM, "--trials", "8", "--ray", cluster.address)  # the same command goes on
    assert count_complete(project) == dict.fromkeys(range(8), 1)
    shutil.rmtree(project / "experiments")
    tune(project, *RANDOM, "--trials", "6", "--cold")
    assert outcomes(project) == far


def test_a_machine_is_killed(project, broken_cluster):
    """A machine goes while trials run on it: they are tried again elsewhere, with their numbers and values."""
    driver = start(project, "tune", "bowl.ipynb", "--name", "bowl", *RANDOM, "--trials", "8", "-p", "pause_s", "1", "--ray", broken_cluster.address)
    await_true(lambda: len(list((project / "experiments").glob("*/metrics.jsonl"))) >= 3, "three trials")
    broken_cluster.remove_node(broken_cluster.machines[0], allow_graceful=False)
    assert driver.wait(LIMIT_S) == 0
    printed = next(project.parent.glob(f"{project.name}.*.txt")).read_text()
    assert "A machine of the cluster is gone" in printed, printed
    assert [one[0] for one in outcomes(project)] == list(range(8)) and {one[2] for one in outcomes(project)} == {"complete"}
    assert count_complete(project) == dict.fromkeys(range(8), 1)
    others = [one for one in read_runs(project) if one["state"] != "completed"]
    assert others and {one["state"] for one in others} <= {"killed", "interrupted"}
    values = read_values(project)
    assert all(one["study"]["values"] == values[one["study"]["trial"]] for one in others), "another attempt has other values"


def test_stopped_and_resumed(project, cluster):
    driver = start(project, "tune", "bowl.ipynb", "--name", "bowl", *RANDOM, "--trials", "5", "-p", "pause_s", "1", "--ray", cluster.address)
    await_true(lambda: len(list((project / "experiments").glob("*/metrics.jsonl"))) >= 2, "two trials")
    driver.send_signal(signal.SIGINT)
    assert driver.wait(LIMIT_S) == 130
    await_true(lambda: not any(one["state"] == "running" for one in read_runs(project)), "the end of all runs")
    ml_repo(project, "study", "resume", "bowl", "--ray", cluster.address)
    assert count_complete(project) == dict.fromkeys(range(5), 1)


def test_a_driver_is_killed(project, cluster):
    driver = start(project, "tune", "bowl.ipynb", "--name", "bowl", *RANDOM, "--trials", "5", "-p", "pause_s", "1", "--ray", cluster.address)
    await_true(lambda: len(list((project / "experiments").glob("*/metrics.jsonl"))) >= 2, "two trials")
    driver.send_signal(signal.SIGKILL)
    driver.wait(LIMIT_S)
    ml_repo(project, "study", "resume", "bowl", "--ray", cluster.address)
    assert count_complete(project) == dict.fromkeys(range(5), 1)


def test_without_a_shared_folder(project, cluster, tmp_path_factory):
    """The driver keeps its records on a disk of its own, which the machines do not see: they come through the object store."""
    copied = tmp_path_factory.mktemp("copied")
    words = " ".join([str(BIN / "ml-repo"), "tune", "bowl.ipynb", "--name", "bowl", *RANDOM, "--trials", "4", "--ray", cluster.address])
    (project / "experiments").mkdir()
    script = f"mount -t tmpfs tmpfs experiments && {words} && cp -a experiments {copied}/"
    done = subprocess.run(["unshare", "--mount", "sh", "-c", script], cwd=project, capture_output=True, text=True, timeout=LIMIT_S)
    if "unshare" in done.stderr or "mount:" in done.stderr:
        pytest.skip("may not mount a disk here")
    assert done.returncode == 0, done.stdout + done.stderr
    assert not list((project / "experiments").iterdir()), "the machines have written into a folder that they do not share"
    shutil.rmtree(project / "experiments")
    shutil.copytree(copied / "experiments", project / "experiments")
    assert count_complete(project) == dict.fromkeys(range(4), 1)
    for record in read_runs(project):
        assert (project / "experiments" / ".store" / f"{record['packages']['list']}.txt").is_file(), "a text was left behind"
    assert not list(Path(tempfile.gettempdir()).glob("ml_repo-ray-*"))


def test_a_machine_without_the_notebook(project, cluster):
    """What the machines do not have is told, and the study goes on when it is there."""
    (project / "experiments").mkdir()
    words = " ".join([str(BIN / "ml-repo"), "tune", "bowl.ipynb", "--name", "bowl", *RANDOM, "--trials", "2", "--ray", cluster.address])
    script = f"cp -a . /tmp/copy-$$ && mount --bind /tmp/copy-$$ {project} && cd {project} && echo '# more' >> settings.ini && sed -i 's/top = 1/top = 2/' bowl.ipynb && {words}; code=$?; rm -rf /tmp/copy-$$; exit $code"
    done = subprocess.run(["unshare", "--mount", "sh", "-c", script], cwd=project, capture_output=True, text=True, timeout=LIMIT_S)
    if "unshare" in done.stderr or "mount:" in done.stderr:
        pytest.skip("may not mount a disk here")
    assert done.returncode == 2 and "as it is here. Bring the repository there" in done.stdout + done.stderr, done.stdout + done.stderr


def test_no_cluster(project):
    pytest.importorskip("ray")
    assert "There is no Ray cluster at 127.0.0.1:1" in tune(project, *RANDOM, "--trials", "2", "--ray", "127.0.0.1:1", code=2)
