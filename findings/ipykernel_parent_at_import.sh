#!/bin/sh
# ipykernel 7.4.0: a kernel looks for its parent's number when Python imports it, not when it starts.
#
# Jupyter names the process that has started a kernel in JPY_PARENT_PID, and the kernel ends when that process is gone. The default
# of IPKernelApp.parent_handle is read from the environment while the class is defined. So a program that imports ipykernel.kernelapp ahead,
# to start kernels sooner, and then sets the variable for each of them, gets kernels that watch nobody and outlive their parent:
# without a message, and although os.environ of the kernel shows the right number. All else of the environment counts at the start.
#
# Seen: set before the import, parent_handle is the number and a ParentPollerUnix runs; set after it, 0 and none.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check ipykernel==7.4.0 jupyter-client==8.10.0
cat > "$folder/kernel.py" <<'PY'
import os
import sys

if sys.argv[1] == "before":
    os.environ["JPY_PARENT_PID"] = str(os.getppid())
from ipykernel.kernelapp import IPKernelApp

os.environ["JPY_PARENT_PID"] = str(os.getppid())
app = IPKernelApp.instance()
app.initialize(["-f", os.path.abspath("kernel.json"), "--transport=ipc", "--IPKernelApp.capture_fd_output=False"])
has_poller = type(getattr(app, "poller", None)).__name__ == "ParentPollerUnix"
parent = "the parent" if app.parent_handle == os.getppid() else app.parent_handle
os.write(1, f"{sys.argv[1]} the import: parent_handle is {parent}, {'with' if has_poller else 'without'} a poller\n".encode())
os._exit(0)
PY
cd "$folder"
for order in before after; do "$folder/venv/bin/python" kernel.py "$order"; done > seen.txt
cat seen.txt
grep -q '^before the import: parent_handle is the parent, with a poller$' seen.txt || { echo "this finding is out of date" >&2; exit 1; }
grep -q '^after the import: parent_handle is 0, without a poller$' seen.txt || { echo "this finding is out of date" >&2; exit 1; }
