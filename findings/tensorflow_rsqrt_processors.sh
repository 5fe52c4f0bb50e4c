#!/bin/sh
# TensorFlow 2.21.0 on CPUs: rsqrt and reciprocal give other bits on another maker's processor; sqrt, exp, tanh and / do not.
#
# Who wants the same bits on two machines limits the instruction set (here all is AVX2), the threads and oneDNN, and
# expects exp or tanh to differ rather than a square root. It is the other way round: Eigen begins rsqrt and reciprocal
# with the processor's own approximation (rsqrtps, rcpps), which Intel, AMD and emulators define differently, and one
# step of Newton's method leaves that in the last bit. So batch and layer normalization (rsqrt) and softmax (reciprocal)
# part between machines, and so does a division by a constant inside of tf.function, which the graph optimizer turns
# into a product with a folded reciprocal. 1 / sqrt(x) and 1 / x by tf.divide are the same on both.
#
# Needs qemu-x86_64 (Debian: qemu-user), which runs the same program as on an Intel Haswell. Seen here on an AMD EPYC.
set -eu
command -v qemu-x86_64 > /dev/null || { echo "qemu-x86_64 is missing: apt install qemu-user" >&2; exit 1; }
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check tensorflow-cpu==2.21.0 numpy==2.4.6
cat > "$folder/hash.py" <<'PY'
import hashlib

import numpy as np
import tensorflow as tf

x = tf.constant(np.abs(np.random.default_rng(0).normal(size=4096)).astype("float32") + 1e-3)
results = {name: getattr(tf.math, name)(x) for name in ("rsqrt", "reciprocal", "sqrt", "exp", "log", "tanh", "erf")}
results |= {"1 / sqrt": 1.0 / tf.sqrt(x), "1 / x": 1.0 / x, "softmax": tf.nn.softmax(tf.reshape(x, (64, 64)))}
for name, value in results.items():
    print(name.replace(" ", ""), hashlib.sha256(value.numpy().tobytes()).hexdigest()[:8])
PY
python=$(readlink -f "$folder/venv/bin/python")
packages=$("$folder/venv/bin/python" -c "import sysconfig; print(sysconfig.get_path('purelib'))")
limits="ONEDNN_MAX_CPU_ISA=AVX2 TF_NUM_INTRAOP_THREADS=1 TF_NUM_INTEROP_THREADS=1 PYTHONPATH=$packages"
# shellcheck disable=SC2086
env $limits "$python" "$folder/hash.py" > "$folder/real" 2> /dev/null
options=$(for limit in $limits; do printf -- '-E %s ' "$limit"; done)
# shellcheck disable=SC2086
qemu-x86_64 -cpu Haswell $options "$python" "$folder/hash.py" > "$folder/emulated" 2> /dev/null
join "$folder/real" "$folder/emulated" 2> /dev/null | awk '{ print $1, $2 == $3 ? "the same bits" : "other bits" }'
python3 - "$folder/real" "$folder/emulated" <<'PY'
import sys

real, emulated = (dict(line.split() for line in open(path)) for path in sys.argv[1:])
parted = {name for name in real if real[name] != emulated[name]}
assert parted == {"rsqrt", "reciprocal", "softmax"}, f"this finding is out of date, or your processor is a Haswell: {parted}"
PY
