#!/bin/sh
# PyTables 3.11.1 against h5py 3.16.0: the same array, written twice into HDF5, is other bytes with one and the same with the other.
#
# HDF5 can keep the time of a change with each object. h5py leaves it out unless it is asked to (track_times); PyTables
# writes it by default, so a check by the hash of the file says "changed" a second later, although each number is the
# same. DataFrame.to_hdf uses PyTables and has no parameter for it. Seen here with pandas 2.3.3: h5py equal, PyTables
# other bytes, to_hdf other bytes; PyTables with track_times=False equal.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check tables==3.11.1 h5py==3.16.0 pandas==2.3.3
cd "$folder"
"$folder/venv/bin/python" - <<'PY'
import hashlib
import time
from importlib.metadata import version

import h5py
import numpy as np
import pandas as pd
import tables

values = np.arange(4.0)


def by_h5py(path):
    with h5py.File(path, "w") as file:
        file["x"] = values


def by_pytables(path, **options):
    with tables.open_file(path, "w") as file:
        file.create_array("/", "x", values, **options)


def by_pandas(path):
    pd.DataFrame({"x": values}).to_hdf(path, key="x")


found = {}
for name, write in {"h5py": by_h5py, "PyTables": by_pytables, "to_hdf": by_pandas,
                    "PyTables without times": lambda path: by_pytables(path, track_times=False)}.items():
    digests = set()
    for _ in range(2):
        write("a.h5")
        with open("a.h5", "rb") as file:
            digests.add(hashlib.sha256(file.read()).hexdigest())
        time.sleep(1.1)
    found[name] = "equal" if len(digests) == 1 else "other bytes"
print(f"PyTables {version('tables')}, h5py {version('h5py')}, pandas {version('pandas')}:", found)
assert list(found.values()) == ["equal", "other bytes", "other bytes", "equal"], "this finding is out of date"
PY
