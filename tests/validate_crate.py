"""Check a crate with the public validator, in an environment that has it: context file, crate, profile, severity.

The validator fetches the context of RO-Crate from the Web; here it gets the same file from the disk, and nothing else.
"""
import sys
from email import message_from_string
from urllib.request import BaseHandler, Request, build_opener, install_opener
from urllib.response import addinfourl

import requests
from rocrate_validator import models, services

CONTEXT, CRATE, PROFILE, SEVERITY = sys.argv[1:]
ADDRESS = "https://w3id.org/ro/crate/1.2/context"


class FromDisk(BaseHandler):
    """Answers for the address of the context."""

    def default_open(self, request: Request) -> addinfourl | None:
        if request.type not in ("http", "https"):
            return None
        if request.full_url != ADDRESS:
            raise OSError(f"not here: {request.full_url}")
        answer = addinfourl(open(CONTEXT, "rb"), message_from_string("Content-Type: application/ld+json\n\n"), ADDRESS, 200)
        answer.msg = "OK"
        return answer


def answer_request(self: requests.Session, method: str, url: str, *words: object, **options: object) -> requests.Response:
    """Answer as the server of the context would, and as if there were no other."""
    answer = requests.Response()
    answer.url, answer.status_code = url, 200 if url == ADDRESS else 404
    answer.headers["Content-Type"] = "application/ld+json"
    with open(CONTEXT, "rb") as file:
        answer._content = file.read() if url == ADDRESS else b""
    return answer


install_opener(build_opener(FromDisk))
requests.Session.request = answer_request
settings = services.ValidationSettings(rocrate_uri=CRATE, profile_identifier=PROFILE, requirement_severity=models.Severity[SEVERITY],
                                       enable_profile_inheritance=PROFILE != "process-run-crate")  # it stands on 1.1
for issue in services.validate(settings).get_issues():
    print(f"{issue.severity.name} {issue.check.identifier} {issue.message}")
