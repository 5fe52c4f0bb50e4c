#!/bin/sh
# TensorBoard 2.21.0: the HParams page keeps the first values that it has read of a run, whatever is written afterwards.
#
# Parameters lie in the metadata of a summary, and of several with one tag the metadata of the first counts. Seen here
# (with tensorboard-data-server 0.7.2 and without): a run says lr=0.1, later a second event file, or the same folder written
# anew at once, says lr=0.5 and that the run has ended. The page then has the end, with 0.1, until it is restarted. Only a
# folder that is gone for longer than --reload_interval, and then comes back, shows 0.5.
set -eu
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet tensorboard==2.21.0 tensorboard-data-server==0.7.2 'setuptools<81'
cat > "$place/look.py" <<'P'
import json, shutil, socket, subprocess, sys, time, urllib.request
from pathlib import Path
from google.protobuf.struct_pb2 import Value
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData
from tensorboard.summary.writer.record_writer import RecordWriter

way, fast, log = sys.argv[1], sys.argv[2], Path(sys.argv[3])


def write(lr, number, **end):
    (log / "run").mkdir(parents=True, exist_ok=True)
    writer = RecordWriter(open(log / "run" / f"events.out.tfevents.{number}.host", "wb"))
    writer.write(Event(wall_time=0, file_version="brain.Event:2").SerializeToString())
    start = {"session_start_info": {"hparams": {"lr": Value(number_value=lr)}, "group_name": "run", "start_time_secs": 1}}
    for content in (start, *([end] if end else [])):
        data = HParamsPluginData(version=0, **content).SerializeToString()
        value = {"tag": f"_hparams_/{next(iter(content))}", "tensor": {"dtype": 1, "tensor_shape": {"dim": [{"size": 0}]}},
                 "metadata": {"plugin_data": {"plugin_name": "hparams", "content": data}, "data_class": 2}}
        writer.write(Event(wall_time=1, step=0, summary={"value": [value]}).SerializeToString())
    writer.write(Event(wall_time=1, step=1, summary={"value": [{"tag": "loss", "simple_value": lr}]}).SerializeToString())
    writer.close()


def ask():
    body = {"colParams": [{"hparam": "lr", "includeInResult": True}], "startIndex": 0, "sliceSize": 9,
            "allowedStatuses": ["STATUS_UNKNOWN", "STATUS_SUCCESS", "STATUS_FAILURE", "STATUS_RUNNING"]}
    address = f"http://127.0.0.1:{port}/experiment/defaultExperimentId/data/plugin/hparams/session_groups"
    request = urllib.request.Request(address, json.dumps(body).encode(), {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:
            return [(group["hparams"]["lr"], group["sessions"][0]["status"]) for group in json.load(answer)["sessionGroups"]]
    except OSError:
        return None


def await_answer(is_right):
    until = time.monotonic() + 60
    while not is_right(found := ask()) and time.monotonic() < until:
        time.sleep(0.3)
    return found


with socket.socket() as probe:
    probe.bind(("127.0.0.1", 0))
    port = probe.getsockname()[1]
write(0.1, 0)
server = subprocess.Popen([sys.executable, "-m", "tensorboard.main", "--logdir", log, "--port", str(port), "--reload_interval", "1",
                           "--load_fast", fast], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
try:
    await_answer(lambda found: found)
    if way != "second file":
        shutil.rmtree(log / "run")
    if way == "gone for a while":
        await_answer(lambda found: found == [])
    write(0.5, 1, session_end_info={"status": 1, "end_time_secs": 2})
    found = await_answer(lambda found: bool(found) and (way == "written anew at once" or found[0][1] == "STATUS_SUCCESS"))
    if way == "written anew at once":
        time.sleep(5)
        found = ask()
    print(found[0][0])
finally:
    server.terminate()
    server.wait()
P
for fast in true false; do
    for way in "second file" "written anew at once" "gone for a while"; do
        shown=$("$place/venv/bin/python" "$place/look.py" "$way" $fast "$place/log" 2>/dev/null)
        rm -rf "$place/log"
        echo "data server $fast, $way: lr=$shown on the page, 0.5 in the newest file"
        case "$way" in gone*) [ "$shown" = 0.5 ] ;; *) [ "$shown" = 0.1 ] ;; esac
    done
done
