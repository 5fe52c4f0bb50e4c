#!/bin/sh
# tensorboardX 2.6.5: SummaryWriter.flush() returns while events are still waiting in the queue of the writer's thread.
#
# Its docstring says "make sure that all pending events have been written to disk", and TensorFlow's and PyTorch's
# writers do so. Seen here: after flush() the event file lacks the last events (up to a few hundred bytes of 2,000
# scalars, in most of ten tries); after close() they are there. A process that calls flush() after each epoch and is
# then killed loses what the thread had not taken from the queue yet: whoever relies on it must close() the writer.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check tensorboardX==2.6.5
cd "$folder"
"$folder/venv/bin/python" - <<'PY'
import tempfile
from pathlib import Path

import tensorboardX
from tensorboardX import SummaryWriter

short = 0
for attempt in range(10):
    writer = SummaryWriter(tempfile.mkdtemp(dir="."))
    for step in range(2000):
        writer.add_scalar("loss", 1 / (step + 1), step)
    writer.flush()
    file = next(Path(writer.logdir).iterdir())
    flushed = file.stat().st_size
    writer.close()
    closed = file.stat().st_size
    print(f"try {attempt}: {flushed} bytes after flush(), {closed} after close()")
    short += flushed < closed
print(f"tensorboardX {tensorboardX.__version__}: flush() left events behind in {short} of 10 tries")
assert short > 0, "flush() waits for its queue now: this finding is out of date"
PY
