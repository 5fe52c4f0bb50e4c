#!/bin/sh
# skops 0.16.0 with scikit-learn 1.9.1: a saved model holds memory addresses and the time, so its bytes never repeat.
#
# skops.io is the safe replacement of pickle for scikit-learn's models. Its file is a ZIP whose arrays are named after
# id() of the object, and whose schema.json gives "__id__", again id(), for every node; the entries are dated. A pickle
# of the same model has the same bytes in each process. Seen here: two processes that fit and save the same model give
# the same pickle and other names of members in the skops file. Whoever compares models by a hash compares addresses:
# load both, or leave out "__id__" and the names of the members.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check skops==0.16.0 scikit-learn==1.9.1 numpy==2.4.6
cd "$folder"
cat > fit.py <<'PY'
import pickle
import sys

import skops.io
from sklearn.linear_model import LinearRegression

model = LinearRegression().fit([[0.0], [1.0], [2.0]], [0.0, 1.0, 2.0])
ballast = [bytes(1000) for _ in range(int(sys.argv[2]))]  # what another program happens to have in memory
model = pickle.loads(pickle.dumps(model))
skops.io.dump(model, f"{sys.argv[1]}.skops")
with open(f"{sys.argv[1]}.pickle", "wb") as file:
    pickle.dump(model, file)
PY
venv/bin/python fit.py first 0
venv/bin/python fit.py second 5000
venv/bin/python - <<'PY'
import zipfile
from importlib.metadata import version
from pathlib import Path

names = [sorted(zipfile.ZipFile(f"{name}.skops").namelist()) for name in ("first", "second")]
pickles = [Path(f"{name}.pickle").read_bytes() for name in ("first", "second")]
print(f"skops {version('skops')}:", *names, sep="\n")
print("the pickles are", "the same" if pickles[0] == pickles[1] else "different")
assert pickles[0] == pickles[1] and names[0] != names[1], "this finding is out of date"
PY
