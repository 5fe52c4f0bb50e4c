#!/bin/sh
# jsonschema 4.26.0: its extra "format-nongpl" makes "import jsonschema" several times as expensive, in every program.
#
# The extra is meant for who checks formats of strings. It brings rfc3987-syntax 1.1.0, which compiles a grammar with
# Lark when it is imported, and jsonschema imports it at its top if it is there. JupyterLab needs the extra
# (jupyter-events does), so in each environment that holds JupyterLab `import nbformat`, and with it papermill,
# nbclient and nbconvert, pays for it, although none of them checks such a format. jsonschema 4.24.1 has the extra
# without that package. Seen here on a busy machine, processor time in seconds: 0.18 without the extra, 3.21 with it,
# and 0.29 with it in 4.24.1.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
install() { "$folder/venv/bin/pip" install --quiet --disable-pip-version-check "$@"; }
measure() {
    "$folder/venv/bin/python" - <<'PY'
import resource
import subprocess
import sys


def cost(program):  # processor time in seconds, the least of three
    times = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-c", program], check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        times.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return min(times)


loaded = subprocess.run([sys.executable, "-c", "import sys, jsonschema; print('lark' in sys.modules)"], text=True,
                        capture_output=True, check=True).stdout.strip()
print(f"{cost('import jsonschema'):.2f} {loaded}")
PY
}
install jsonschema==4.26.0
bare=$(measure)
install "jsonschema[format-nongpl]==4.26.0" rfc3987-syntax==1.1.0 lark==1.3.1
extra=$(measure)
"$folder/venv/bin/pip" uninstall --quiet --yes rfc3987-syntax lark
install "jsonschema[format-nongpl]==4.24.1"
earlier=$(measure)
echo "seconds of 'import jsonschema', and whether it loads lark: 4.26.0 $bare; with the extra $extra; 4.24.1 with it $earlier"
python3 - $bare $extra $earlier <<'PY'
import sys

bare, _, extra, loads, earlier, loaded = sys.argv[1:]
assert (loads, loaded) == ("True", "False") and float(extra) > 2 * float(bare), "this finding is out of date"
PY
