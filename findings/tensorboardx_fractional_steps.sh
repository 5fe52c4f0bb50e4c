#!/bin/sh
# tensorboardX 2.6.5: a fractional step is cut to a whole number in silence, so a curve falls on one point.
#
# Steps in epochs (0.25, 0.5, ...) are common, and an event holds an int64, so one would expect an error or a scale.
# Four scalars at 0, 0.25, 0.5 and 0.75 are all written at step 0, one above the other. Seen in the event file itself.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check tensorboardX==2.6.5
cd "$folder"
"$folder/venv/bin/python" - <<'PY'
import struct
from pathlib import Path

import tensorboardX
from tensorboardX.proto import event_pb2

writer = tensorboardX.SummaryWriter("log")
for part in (0, 0.25, 0.5, 0.75):
    writer.add_scalar("loss", 1 - part, part)
writer.close()
data, steps = next(Path("log").iterdir()).read_bytes(), []
while data:
    (size,) = struct.unpack("<Q", data[:8])
    event = event_pb2.Event.FromString(data[12:12 + size])
    steps += [event.step for value in event.summary.value if value.tag == "loss"]
    data = data[12 + size + 4:]
print(f"tensorboardX {tensorboardX.__version__}: steps 0, 0.25, 0.5, 0.75 are written as {steps}")
assert steps == [0, 0, 0, 0], "this finding is out of date"
PY
