#!/bin/sh
# safetensors 0.8.0: the same tensors with the same metadata give other bytes from one save to the next.
#
# The format is often hashed to name a model, and with no or one entry of metadata the bytes are indeed the same. With
# several, the header lists them in the order of a hash map that is seeded anew at each save, within one process too:
# twenty saves of one array with four entries gave more than two different files here. A hash of the file is therefore
# no fingerprint of the weights; hash the tensors, or keep the metadata in one entry (a JSON text).
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check safetensors==0.8.0 numpy==2.4.6
"$folder/venv/bin/python" - <<'PY'
from importlib.metadata import version

import numpy as np
from safetensors.numpy import save

weights = {"dense": np.arange(4.0)}
entries = {"epoch": "3", "lr": "0.1", "seed": "1", "data": "digits"}
several = {save(weights, metadata=entries) for _ in range(20)}
one = {save(weights, metadata={"epoch": "3"}) for _ in range(20)}
print(f"safetensors {version('safetensors')}: {len(several)} different files of 20 saves with four entries, {len(one)} with one")
print(*sorted(file[8:90].decode() for file in several)[:2], sep="\n")
assert len(several) > 2 and len(one) == 1, "this finding is out of date"
PY
