#!/bin/sh
# `uv pip compile --python-version 3.13` resolves versions for a Python 3.13, and its help calls that the version "to use for resolution",
# so one expects that no such Python is needed: markers and metadata are enough. Yet where none is installed, uv first sets out to download
# a whole interpreter. Where it gets none, after ten seconds of trying, it resolves with the Python that is there, as it says in a warning.
# With --no-python-downloads the answer is the same, to the byte, without the attempt.
# Seen with uv 0.13.9 beside Python 3.11.7, without a route to GitHub: it asks for cpython-3.13 of python-build-standalone; 10 s, and 0.3 s with the option.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check uv==0.13.9
other=$("$folder/venv/bin/python" -c "import sys; print('3.12' if sys.version_info[:2] == (3, 13) else '3.13')")
echo "iniconfig==2.1.0" > "$folder/wanted.txt"
compile() { # in an environment where no other Python can be found
    env PATH="$folder/venv/bin" HOME="$folder" UV_PYTHON_INSTALL_DIR="$folder/pythons-$1" "$folder/venv/bin/uv" pip compile "$folder/wanted.txt" \
        --python-version "$other" --no-header --verbose $2 > "$folder/$1.txt" 2> "$folder/$1.log"
}
compile usual ""
compile without "--no-python-downloads"
"$folder/venv/bin/uv" --version
grep -o "Downloading .*cpython-$other[^%+]*" "$folder/usual.log" | head -n 1
if grep -q "Downloading .*cpython-" "$folder/without.log"; then echo "this finding is out of date"; exit 1; fi
cmp "$folder/usual.txt" "$folder/without.txt"
grep -q "Downloading .*cpython-$other" "$folder/usual.log" || { echo "this finding is out of date"; exit 1; }
