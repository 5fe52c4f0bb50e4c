#!/bin/sh
# sshfs 2026.8.0 (the fsspec file system) on AsyncSSH 2.24.1: the key of the server is not checked, unless known_hosts is given.
#
# AsyncSSH refuses a server whose key is not in ~/.ssh/known_hosts, as ssh does, and sshfs passes its options on to
# asyncssh.connect. But it sets known_hosts=None where the caller says nothing, and None is AsyncSSH's word for "believe
# any host", also one whose known key has changed. known_hosts=() brings the check back.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check sshfs==2026.8.0 asyncssh==2.24.1 fsspec==2026.9.0
cd "$folder" && mkdir -p home/.ssh files
HOME="$folder/home" venv/bin/python - <<'PY'
import asyncio
import threading
from importlib.metadata import version
from pathlib import Path

import asyncssh
from sshfs import SSHFileSystem


class Server(asyncssh.SSHServer):
    def begin_auth(self, username):
        return False  # everybody may come in: this is about the key of the server


ready = threading.Event()


async def serve():
    listener = await asyncssh.listen("127.0.0.1", 0, server_factory=Server, sftp_factory=True,
                                     server_host_keys=[asyncssh.generate_private_key("ssh-ed25519")])
    ready.port = listener.get_port()
    ready.set()
    await asyncio.sleep(60)


threading.Thread(target=asyncio.run, args=(serve(),), daemon=True).start()
ready.wait()
wrong = asyncssh.generate_private_key("ssh-ed25519").export_public_key().decode().strip()
Path("home/.ssh/known_hosts").write_text(f"[127.0.0.1]:{ready.port} {wrong}\n")  # of another server
outcomes = []
for name, options in (("as it is", {}), ("known_hosts=()", {"known_hosts": ()})):
    try:
        SSHFileSystem("127.0.0.1", port=ready.port, username="me", skip_instance_cache=True, **options).ls("files")
        outcomes.append("connected, although the key is another one than in known_hosts")
    except asyncssh.HostKeyNotVerifiable as error:
        outcomes.append(f"refused: {error}")
    print(f"sshfs, {name}: {outcomes[-1]}")
print(f"sshfs {version('sshfs')}, AsyncSSH {version('asyncssh')}")
assert outcomes[0].startswith("connected") and outcomes[1].startswith("refused"), "this finding is out of date"
PY
