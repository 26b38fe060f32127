"""moto as AWS Glue on a port of 127.0.0.1, as strict as AWS is where moto is not.

    server.py PORT ACCESS_KEY SECRET_KEY [-X…]

- Every request must be signed with one of two keys: the one given here, whose owner may do what policy.json
  lists and nothing else, and `stranger` with the same secret, who may do nothing. moto checks signatures
  with AWS's own library, once it is told to; its refusals get the names and the form that Glue's have.
- Glue refuses an update of a table that names another version than the table has: that is what keeps two
  writers from overwriting each other. moto takes every update, so the rule is put before it here, as the
  API's reference has it (UpdateTable: VersionId, ConcurrentModificationException).
- Glue tells lists in pages; moto tells them whole. Here a page has two entries.

moto knows the permissions of an action, not those of one table: the policy is read without its resources.
"""

import json
import pathlib
import sys
import threading

from moto import settings
from moto.core import DEFAULT_ACCOUNT_ID
from moto.core.exceptions import JsonRESTError
from moto.core.responses import ActionResult
from moto.glue.responses import GlueResponse
from moto.iam import iam_backends
from moto.iam.access_control import IAMRequest
from moto.server import main

PAGE = 2
one_at_a_time = threading.Lock()
moto_update_table = GlueResponse.update_table


def update_table(self):
    with one_at_a_time:
        wanted = self.parameters.get("VersionId")
        name = self.parameters["TableInput"]["Name"]
        table = self.glue_backend.get_table(self.parameters["DatabaseName"], name)
        found = table.as_dict()["VersionId"]
        if wanted is not None and wanted != found:
            message = f"version {found} of the table is newer than {wanted}"
            raise JsonRESTError("ConcurrentModificationException", message)
        return moto_update_table(self)


def page(self, name, entries):
    start = int(self.parameters.get("NextToken") or 0)
    entries = [entry.as_dict() for entry in entries]
    answer = {name: entries[start : start + PAGE]}
    if start + PAGE < len(entries):
        answer["NextToken"] = str(start + PAGE)
    return ActionResult(answer)


def get_tables(self):
    expression = self.parameters.get("Expression")
    tables = self.glue_backend.get_tables(self.parameters["DatabaseName"], expression)
    return page(self, "TableList", tables)


def get_databases(self):
    return page(self, "DatabaseList", self.glue_backend.get_databases())


def unknown_key(self, _):
    raise JsonRESTError("UnrecognizedClientException", "The security token included in the request is invalid.")


def wrong_signature(self):
    raise JsonRESTError("InvalidSignatureException", "The request signature we calculated does not match.")


def not_permitted(self):
    message = f"User: {self._access_key.arn} is not authorized to perform: {self._action}"
    raise JsonRESTError("AccessDeniedException", message)


IAMRequest._raise_invalid_access_key = unknown_key
IAMRequest._raise_signature_does_not_match = wrong_signature
IAMRequest._raise_access_denied = not_permitted
GlueResponse.update_table = update_table
GlueResponse.get_tables = get_tables
GlueResponse.get_databases = get_databases


def user(name, key_id, secret, policy=None):
    backend = iam_backends[DEFAULT_ACCOUNT_ID]["aws"]
    backend.create_user("us-east-1", name)
    if policy is not None:
        backend.put_user_policy(name, "policy", json.dumps(policy))
    key = backend.create_access_key(name)
    del backend.access_keys[key.physical_resource_id]
    key.access_key_id, key.secret_access_key = key_id, secret
    backend.access_keys[key_id] = key


if __name__ == "__main__":
    port, key_id, secret = sys.argv[1:4]
    policy = json.loads(pathlib.Path(__file__).with_name("policy.json").read_text())
    for statement in policy["Statement"]:
        statement["Resource"] = "*"
    user("agentflow", key_id, secret, policy)
    user("stranger", "stranger", secret)
    settings.INITIAL_NO_AUTH_ACTION_COUNT = 0
    main(["-H", "127.0.0.1", "-p", port])
