#!/bin/sh
# IPython 9.18.1: a set that a cell returns is shown sorted, but only below 1,000 elements; print() never sorts.
#
# The order of texts in a set changes from process to process, and notebooks hide it: the pretty printer sorts the
# elements where they can be sorted and are fewer than its max_seq_length (1000). Seen here, in five processes: the first
# word of a set of 999 words is the same in each when a cell returns the set, and five different ones with print(); with
# one word more it is another one in each, either way. A reader that takes each displayed set for a source of change
# tells too much, and one that takes none misses the large ones.
set -eu
place=$(mktemp -d); trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet ipython==9.18.1
cat > "$place/look.py" <<'P'
import sys
from IPython.lib.pretty import pretty
words = {f"word{number:04}" for number in range(int(sys.argv[1]))}
print(pretty(words).split(",")[0].strip("{ "), str(words).split(",")[0].strip("{ "))
P
look() { PYTHONHASHSEED=$1 "$place/venv/bin/python" "$place/look.py" "$2"; }
for size in 999 1000; do
    shown= printed=
    for seed in 1 2 3 4 5; do
        set -- $(look $seed $size); shown="$shown$1\n" printed="$printed$2\n"
    done
    echo "$size elements: first one returned by a cell in $(printf "$shown" | sort -u | wc -l) ways in 5 processes, printed in $(printf "$printed" | sort -u | wc -l)"
    eval "shown_$size=$(printf "$shown" | sort -u | wc -l) printed_$size=$(printf "$printed" | sort -u | wc -l)"
done
[ "$shown_999" = 1 ] && [ "$printed_999" -gt 1 ] && [ "$shown_1000" -gt 1 ] && [ "$printed_1000" -gt 1 ]
