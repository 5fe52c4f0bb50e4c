#!/bin/sh
# obstore 0.12.1 with Azure Blob Storage (Azurite 3.35.0): a listing gives another ETag of the same object than all else.
#
# put, head and get give the ETag in its quotation marks, as HTTP writes it; list and list_with_delimiter give it without
# them, as Azure's XML does. Whoever keeps what put has answered, and later looks into a listing whether the object is still
# the same, takes every object for changed. A conditional write takes both forms. In memory, all five answers agree.
#
# Seen: put, head, get '"0x…"', list '0x…'; in memory '"0"' or the like five times.
set -eu
folder=$(mktemp -d)
trap 'kill "$server" 2> /dev/null || true; rm -rf "$folder"' EXIT
server=
npm install --silent --prefix "$folder" azurite@3.35.0
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check obstore==0.12.1 azure-storage-blob==12.31.0
port=$("$folder/venv/bin/python" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
"$folder/node_modules/.bin/azurite-blob" --silent --location "$folder/data" --blobPort "$port" --skipApiVersionCheck --disableTelemetry &
server=$!
AZURE_STORAGE_USE_EMULATOR=true AZURITE_BLOB_STORAGE_URL="http://127.0.0.1:$port" "$folder/venv/bin/python" - "$port" <<'PY'
import sys
import time

import obstore
from azure.core.exceptions import AzureError
from azure.storage.blob import BlobServiceClient
from obstore.store import MemoryStore, from_url

# The name and key that the manual of Azurite gives to everybody.
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
service = BlobServiceClient(f"http://127.0.0.1:{sys.argv[1]}/devstoreaccount1", credential=KEY, retry_total=0)
for attempt in range(100):
    try:
        service.create_container("lab")
        break
    except AzureError:
        time.sleep(0.2)


def list_tags(store: object) -> dict[str, str]:
    """The ETag of one object, as each way of asking gives it."""
    tags = {"put": obstore.put(store, "a", b"1")["e_tag"], "head": obstore.head(store, "a")["e_tag"], "get": obstore.get(store, "a").meta["e_tag"]}
    tags["list"] = next(iter(obstore.list(store)))[0]["e_tag"]
    return tags | {"list_with_delimiter": obstore.list_with_delimiter(store)["objects"][0]["e_tag"]}


azure, memory = list_tags(from_url("az://lab")), list_tags(MemoryStore())
print("Azure ", azure)
print("memory", memory)
store = from_url("az://lab")
for tag in (azure["list"], '"{}"'):  # the one without quotes, then that of the object which this has written, with them
    tag = obstore.put(store, "a", b"2", mode={"e_tag": tag.format(obstore.list_with_delimiter(store)["objects"][0]["e_tag"])}, use_multipart=False)["e_tag"]
print("two conditional writes", tag)
assert len(set(memory.values())) == 1, "this finding is out of date"
assert azure["put"] == azure["head"] == azure["get"] == f'"{azure["list"]}"', "this finding is out of date"
assert azure["list"] == azure["list_with_delimiter"], "this finding is out of date"
PY
