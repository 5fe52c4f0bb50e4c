#!/bin/sh
# Become the owner of the mounted folder, whoever that is: what a run writes belongs to them, and root runs nothing.
# Who starts the container with --user stays that user.
set -eu

folder=$PWD
for mounted in "$PWD" /workspace /tmp; do
    if [ -f "$mounted/settings.ini" ] || mountpoint -q "$mounted"; then folder=$mounted; break; fi
done
if [ "${PYTHONPATH:-/workspace}" = /workspace ]; then export PYTHONPATH="$folder"; fi
if [ "$folder" = /tmp ]; then export TMPDIR=/var/tmp; fi  # temporary files do not belong into the repository
if [ "$PWD" = /workspace ]; then cd "$folder"; fi

# Without a mounted folder it is the user of the image. An owner of 0 is root, or with an engine without root you.
owner=$(stat -c %u "$folder") group=$(stat -c %g "$folder")
if [ "$owner" = 0 ] && ! mountpoint -q "$folder"; then owner=1000 group=1000; fi
if [ "$(id -u)" = 0 ] && [ "$owner" != 0 ]; then
    exec setpriv --reuid "$owner" --regid "$group" --clear-groups -- "$@"
fi
exec "$@"
