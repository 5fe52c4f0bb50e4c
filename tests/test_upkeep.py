"""What a user does to records loses nothing: edits by many, removal, and the bytes that become free."""
import json
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import jsonschema
import pytest
from conftest import LIMIT_S

from ml_repo.core.content_store import read_text, store_text
from ml_repo.records.disk_usage import measure_disk
from ml_repo.records.edit_log import EDITS, add_edit, make_edit
from ml_repo.records.editor import edit_record
from ml_repo.records.garbage_collection import collect_garbage
from ml_repo.records.reader import read_record
from ml_repo.records.record import OpenRecord, open_record
from ml_repo.records.schema import RECORD_SCHEMA
from ml_repo.records.trash import list_trash, remove_runs, restore_run

FORK = multiprocessing.get_context("fork")
TAGGERS = 20


def make_run(experiments: Path, **facts) -> Path:
    """A run that has ended, with an artifact of a few blocks."""
    record = open_record(experiments, "nbs/train.ipynb")
    (record.folder / "artifacts" / "model.keras").write_bytes(os.urandom(10_000))
    (record.folder / "train.ipynb").write_text('{"cells": []}')
    record.close("completed", **facts)
    return record.folder


def read(folder: Path) -> dict:
    """What stands in record.json, without this library."""
    fields = json.loads((folder / "record.json").read_text())
    jsonschema.validate(fields, RECORD_SCHEMA)
    return fields


def edit_late(folder: Path, number: int, start, longest_s: float) -> None:
    """Add a tag and a line at a moment by chance."""
    start.wait()
    time.sleep(random.Random(number).uniform(0, longest_s))
    edit_record(folder, note=f"line {number}", append=True, add_tags=[f"tag{number}"])


def edit_at_once(folder: Path, longest_s: float = 0.0) -> list:
    """Start processes that edit one record; they wait for the event that is returned first."""
    start = FORK.Event()
    workers = [FORK.Process(target=edit_late, args=(folder, number, start, longest_s)) for number in range(TAGGERS)]
    for worker in workers:
        worker.start()
    return [start, *workers]


def check_all_are_there(folder: Path, workers: list) -> None:
    """Every tag and every line, once."""
    for worker in workers:
        worker.join(LIMIT_S)
        assert worker.exitcode == 0
    fields = read(folder)
    assert sorted(fields["tags"]) == sorted(f"tag{number}" for number in range(TAGGERS))
    assert sorted(fields["note"].splitlines()) == sorted(f"line {number}" for number in range(TAGGERS))
    assert not (folder / EDITS).exists() and not list(folder.glob(".*.tmp"))


def test_many_edit_a_run_that_has_ended(tmp_path):
    folder = make_run(tmp_path / "experiments")
    start, *workers = edit_at_once(folder)
    start.set()
    check_all_are_there(folder, workers)


@pytest.mark.parametrize("attempt", range(8))
def test_many_edit_a_run_while_it_ends(tmp_path, attempt):
    record = open_record(tmp_path / "experiments", "nbs/train.ipynb")
    start, *workers = edit_at_once(record.folder, longest_s=0.12)
    start.set()
    for _ in range(attempt):
        record.update(metrics=[])
        time.sleep(0.01)
    record.close("completed")
    check_all_are_there(record.folder, workers)
    assert read(record.folder)["state"] == "completed"


def keep_record(folder: Path, facts: dict, is_open) -> None:
    record = OpenRecord(folder, facts)
    is_open.set()
    while True:
        record.save()


@pytest.mark.parametrize("attempt", range(4))
def test_many_edit_a_run_while_it_is_killed(tmp_path, attempt):
    record = open_record(tmp_path / "experiments", "nbs/train.ipynb")
    record._lock.release()
    is_open = FORK.Event()
    keeper = FORK.Process(target=keep_record, args=(record.folder, record.facts, is_open))
    keeper.start()
    is_open.wait()
    start, *workers = edit_at_once(record.folder, longest_s=0.12)
    start.set()
    time.sleep(0.02 * attempt)
    keeper.kill()
    keeper.join()
    for worker in workers:
        worker.join(LIMIT_S)
    assert read_record(record.folder)["state"] == "killed"
    check_all_are_there(record.folder, workers)


def test_who_is_killed_while_editing_loses_whole_edits_only(tmp_path):
    folder, done = make_run(tmp_path / "experiments"), []

    def edit_for_ever(queue) -> None:
        for number in range(10**6):
            edit_record(folder, add_tags=[f"tag{number}"])
            queue.send(number)

    for attempt in range(8):
        receiver, sender = FORK.Pipe(duplex=False)
        worker = FORK.Process(target=edit_for_ever, args=(sender,))
        worker.start()
        time.sleep(0.03 + 0.017 * attempt)
        worker.kill()
        worker.join()
        while receiver.poll():
            done.append(receiver.recv())
        assert {f"tag{number}" for number in done} <= set(read_record(folder)["tags"])
    edit_record(folder, add_tags=["last-one"])
    assert {f"tag{number}" for number in done} <= set(read(folder)["tags"]) and not (folder / EDITS).exists()


def test_an_edit_that_is_only_a_line_is_seen_and_taken_over(tmp_path):
    folder = make_run(tmp_path / "experiments")
    add_edit(folder, make_edit("größer\n日本", add_tags=["é"]))
    with open(folder / EDITS, "a") as file:
        file.write('{"edit": "torn", "add_ta')
    assert (read_record(folder)["note"], read_record(folder)["tags"]) == ("größer\n日本", ["é"])
    edit_record(folder, add_tags=["second"])
    assert read(folder)["tags"] == ["é", "second"] and not (folder / EDITS).exists()


def test_a_place_that_cannot_be_locked_or_written_is_named(tmp_path, monkeypatch):
    folder = make_run(tmp_path / "experiments")
    before = (folder / "record.json").read_bytes()

    def refuse(*_) -> None:
        raise OSError(37, "No locks available")

    with monkeypatch.context() as patched:
        patched.setattr("ml_repo.records.edit_log.fcntl.flock", refuse)
        with pytest.raises(OSError, match="No locks available. Nothing was changed"):
            edit_record(folder, add_tags=["baseline"])
    assert (folder / "record.json").read_bytes() == before and "baseline" not in read_record(folder)["tags"]
    if os.geteuid() != 0:
        folder.chmod(0o555)
        with pytest.raises(OSError, match="Nothing was changed"):
            edit_record(folder, add_tags=["baseline"])


def measure(folder: Path) -> int:
    """Disk use by a walk that shares nothing with the library; asks du as well."""
    seen, size = set(), 0
    for root, _, files in os.walk(folder):
        for path in [root, *(os.path.join(root, name) for name in files), *(link for name in os.listdir(root) if os.path.islink(link := os.path.join(root, name)) and os.path.isdir(link))]:
            facts = os.lstat(path)
            if facts.st_ino not in seen:
                seen.add(facts.st_ino)
                size += facts.st_blocks * 512
    assert size == int(subprocess.run(["du", "-s", "--block-size=1", str(folder)], capture_output=True, text=True, check=True).stdout.split()[0])
    return size


def age(*paths: Path) -> None:
    """Make files two days old."""
    for path in paths:
        os.utime(path, (time.time() - 2 * 86400,) * 2)


def test_bytes_promised_are_bytes_freed(tmp_path):
    experiments = tmp_path / "experiments"
    folders = [make_run(experiments, packages={"list": store_text(experiments, f"packages {number // 2}"), "lock": store_text(experiments, "lock")})
               for number in range(6)]
    os.link(folders[0] / "artifacts" / "model.keras", folders[1] / "artifacts" / "shared-in-the-bin")
    os.link(folders[2] / "artifacts" / "model.keras", folders[5] / "artifacts" / "shared-with-one-that-stays")
    outside = tmp_path / "data"
    outside.mkdir()
    (outside / "images.npz").write_bytes(b"x" * 100_000)
    (folders[0] / "artifacts" / "data").symlink_to(outside)
    (folders[0] / "artifacts" / "empty").mkdir(mode=0o555)
    with open(folders[1] / "artifacts" / "with holes", "wb") as file:
        file.truncate(10**7)
    for number in range(300):
        (folders[2] / "artifacts" / f"größe {number}.png").write_bytes(b"x" * number)
    young, left = store_text(experiments, "young"), folders[4] / ".record.json.x7.tmp"
    left.write_text("torn")
    (folders[4] / ".reserve").write_bytes(b"x" * 20_000)
    (folders[5] / ".young.tmp").write_text("being written")
    age(left, *(path for path in (experiments / ".store").iterdir() if path.stem != young))
    remove_runs(folders[:3])

    before = measure(experiments)
    assert measure_disk(experiments).total == before
    promised = collect_garbage(experiments)
    assert measure(experiments) == before
    freed = collect_garbage(experiments, dry_run=False)
    assert promised.size_bytes == freed.size_bytes == before - measure(experiments) > 0
    assert sorted(waste.kind for waste in freed) == ["left-over"] * 2 + ["removed run"] * 3 + ["shared text"]
    assert (outside / "images.npz").exists() and read_text(experiments, young) == "young"
    assert read_text(experiments, read(folders[3])["packages"]["list"]) == "packages 1"
    assert list(collect_garbage(experiments)) == [] and (folders[5] / ".young.tmp").exists()


def test_texts_of_a_run_that_goes_on_and_of_damaged_records_stay(tmp_path):
    experiments = tmp_path / "experiments"
    names = [store_text(experiments, text) for text in ("damaged", "in the bin", "of nobody")]
    damaged, removed = make_run(experiments, list=names[0]), make_run(experiments, list=names[1])
    (damaged / "record.json").write_text('{"schema": ' + (damaged / "record.json").read_text())
    remove_runs([removed])
    running = open_record(experiments, "nbs/train.ipynb", started="2026-01-01T00:00:00.000Z")
    age(*(experiments / ".store").iterdir())
    assert list(collect_garbage(experiments, older_than_days=1)) == []
    running.close("completed")
    assert [waste.name[:64] for waste in collect_garbage(experiments, older_than_days=1)] == [names[2]]
    assert {waste.name[:64] for waste in collect_garbage(experiments)} == {removed.name, *names[1:]}
    assert store_text(experiments, "of nobody") == names[2]  # a run asks for it again
    assert names[2] not in {waste.name[:64] for waste in collect_garbage(experiments, dry_run=False)}
    assert damaged.exists()


PROGRAMS = {
    "rm": "from ml_repo.records.trash import remove_runs, restore_run\nwhile True:\n    for one in runs:\n        remove_runs([one])\n    for one in runs:\n        restore_run(home, one.name)",
    "gc": "from ml_repo.records.trash import remove_runs\nfrom ml_repo.records.garbage_collection import collect_garbage\nremove_runs(runs)\nprint('go', flush=True)\ncollect_garbage(home, dry_run=False)",
}


@pytest.mark.parametrize("attempt", range(4))
@pytest.mark.parametrize("command", PROGRAMS)
def test_who_is_killed_leaves_whole_runs(tmp_path, command, attempt):
    experiments = tmp_path / "experiments"
    runs = [make_run(experiments, packages={"list": store_text(experiments, f"packages {number}")}) for number in range(6)]
    stays = make_run(experiments, packages={"list": store_text(experiments, "packages 0")})
    for folder in runs:
        for number in range(200):
            (folder / "artifacts" / str(number)).touch()
    age(*(experiments / ".store").iterdir())
    program = f"from pathlib import Path\nhome = Path({str(experiments)!r})\nruns = [home / name for name in {[one.name for one in runs]}]\n" + PROGRAMS[command]
    worker = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
    if command == "gc":
        worker.stdout.readline()
        time.sleep(0.004 * attempt)
    else:
        while not (experiments / ".bin").exists() and worker.poll() is None:
            time.sleep(0.001)
        time.sleep(0.013 * attempt)
    worker.send_signal(signal.SIGKILL)
    worker.communicate()
    for one in list_trash(experiments):
        restore_run(experiments, one.folder.name)
    found = [folder for folder in runs if folder.exists()]
    assert len(found) == len(runs) or command == "gc"
    for folder in [*found, stays]:
        assert len(list((folder / "artifacts").iterdir())) == (201 if folder != stays else 1)
        assert read_text(experiments, read(folder)["packages"]["list"]).startswith("packages")
        edit_record(folder, add_tags=["again"])
    before, freed = measure(experiments), collect_garbage(experiments, dry_run=False)
    assert before - measure(experiments) == freed.size_bytes and all(folder.exists() for folder in [*found, stays])
    assert not [one for one in (experiments / ".bin").iterdir()]


def test_links_are_removed_and_not_followed(tmp_path):
    experiments, elsewhere = tmp_path / "experiments", make_run(tmp_path / "elsewhere")
    first = make_run(experiments)
    (experiments / "linked").symlink_to(elsewhere)
    use = measure_disk(experiments)
    assert use.total == measure(experiments) and next(one for one in use.uses if one.name == "linked").artifacts == 0
    assert remove_runs([experiments / "linked"])[0].target == str(elsewhere)
    assert read(elsewhere)["state"] == "completed" and not os.path.lexists(experiments / "linked")
    (experiments / ".bin").symlink_to(tmp_path / "elsewhere")
    for attempt in (lambda: remove_runs([first]), lambda: collect_garbage(experiments, dry_run=False)):
        with pytest.raises(ValueError, match="leads out of the records"):
            attempt()
    assert first.exists() and read(elsewhere)["state"] == "completed"


def test_ten_thousand_artifacts(tmp_path):
    experiments = tmp_path / "experiments"
    folder = make_run(experiments)
    for number in range(10_000):
        (folder / "artifacts" / f"{number}.png").touch()
    assert measure_disk(experiments).total == measure(experiments)
    remove_runs([folder])
    before, promised = measure(experiments), collect_garbage(experiments)
    collect_garbage(experiments, dry_run=False)
    assert promised.size_bytes == before - measure(experiments)
