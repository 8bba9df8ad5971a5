import json
from collections.abc import Iterator
from typing import Any, get_args

import pytest
import requests
import schemathesis
from anyio.from_thread import start_blocking_portal
from hypothesis import HealthCheck, Phase, given, settings
from openapi_spec_validator import OpenAPIV31SpecValidator, OpenAPIV32SpecValidator
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from service.access import signatures
from service.app import OPEN_PATHS, OPERATIONS, _openapi_document
from service.http import openapi
from service.wire import BEGINNING
from tests.running import running, signature
from tests.sizes import size

EXAMPLES = size(5, 150)
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]


class SignedRequests(requests.auth.AuthBase):
    """Signs the requests of `requests`."""

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        path, _, query = request.path_url.encode().partition(b"?")
        body: Any = request.body or b""
        content = body if isinstance(body, bytes) else body.encode()
        request.headers[signatures.HEADER] = signature(request.method or "", path, query, content)
        return request


@pytest.fixture(scope="module")
def address(shared_url: str) -> Iterator[str]:
    """The URL of a running service with one message. Its loop runs in a thread of its own."""
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(running(shared_url, first_text_seconds=5)) as run,
    ):
        portal.call(run.project)
        portal.call(run.credit)
        assert portal.call(run.chat, "Hello").status_code == 200
        yield str(run.client.base_url)


def test_the_document_is_made_once(address: str) -> None:
    first = requests.get(f"{address}/openapi.json", timeout=5)
    made = _openapi_document.cache_info().misses
    again = requests.get(f"{address}/openapi.json", timeout=5)
    assert again.content == first.content
    assert _openapi_document.cache_info().misses == made
    tag = {"If-None-Match": first.headers["ETag"]}
    assert requests.get(f"{address}/openapi.json", timeout=5, headers=tag).status_code == 304


def test_the_document_describes_every_operation(address: str) -> None:
    document: dict[str, Any] = requests.get(f"{address}/openapi.json", timeout=5).json()
    asked = document["components"]["schemas"]["ChatPlanRequest"]["properties"]
    deprecated = {name for name, member in asked.items() if member.get("deprecated")}
    assert deprecated == {"chatMode", "versionId", "buildId"}
    assert document["openapi"] == "3.2.0"
    described = {
        (method.upper(), path, operation["operationId"])
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    }
    opened = {("GET", each.path, each.name) for each in OPEN_PATHS}
    assert described == {(each.method, each.path, each.name) for each in OPERATIONS} | opened
    answer = document["paths"]["/v1/chat-plan"]["post"]["responses"]["200"]["content"]
    assert {"accepted", "intent", "chunk", "reset", "final", "goaway"} <= set(kinds(answer))
    feed = document["paths"]["/v1/events"]["get"]["responses"]["200"]["content"]
    assert kinds(feed) == ["event", "goaway"]
    assert set(feed) == {"application/json", "application/x-ndjson", "text/event-stream"}
    assert "GeneralResponse" in document["components"]["schemas"]


@pytest.mark.parametrize("form", get_args(openapi.Version))
def test_the_document_is_valid_and_says_what_generators_and_people_need(
    form: openapi.Version,
) -> None:
    text, _ = _openapi_document(form)
    document = json.loads(text)
    validator = {"3.1.0": OpenAPIV31SpecValidator, "3.2.0": OpenAPIV32SpecValidator}[form]
    assert list(validator(document).iter_errors()) == []
    assert document["openapi"] == form
    assert document["servers"]
    assert document["info"]["license"]["identifier"] == "Apache-2.0"
    operations = [each for methods in document["paths"].values() for each in methods.values()]
    for operation in operations:
        assert operation["description"]
        for each in operation.get("parameters", ()):
            assert each["description"], (operation["operationId"], each["name"])
    scopes = {each["operationId"]: each.get("x-scopes") for each in operations}
    assert scopes == {each.name: list(each.scopes) for each in OPERATIONS} | {
        each.name: None for each in OPEN_PATHS
    }
    data = document["components"]["schemas"]["ReplyData"]["anyOf"]
    assert {"$ref": "#/components/schemas/FeaturePlanResponse"} in data
    for model, member in openapi.DATA:
        held = document["components"]["schemas"][model]["properties"][member]
        assert held == {"$ref": "#/components/schemas/ReplyData"}
    assert ("itemSchema" in text.decode()) == (form == "3.2.0")


def kinds(content: dict[str, Any]) -> list[str]:
    """The kinds of a stream's events."""
    variants = content["text/event-stream"]["itemSchema"]["oneOf"]
    return [each["properties"]["event"]["const"] for each in variants]


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        ("/v1/project/{projectId}/timeline/stream", {"Accept": "text/event-stream"}),
        ("/v1/events", {"Accept": "text/event-stream"}),
        ("/v1/events", {"Accept": "application/x-ndjson"}),
        ("/v1/events", {"Accept": "application/json"}),
    ],
)
def test_a_feed_is_as_documented(address: str, path: str, headers: dict[str, str]) -> None:
    """Streams without an end are read until they are silent."""
    schema = schemathesis.openapi.from_url(f"{address}/openapi.json")
    case = schema[path]["GET"].Case(
        path_parameters={"projectId": "p1"} if "{" in path else {},
        headers=headers | {"Last-Event-ID": BEGINNING},
    )
    response = case.call(auth=SignedRequests(), timeout=(20, 1))
    assert response.status_code == 200
    assert response.headers["content-type"][0].startswith(headers["Accept"])
    assert response.text.count("UserMessagePosted" if "events" in path else "user_message") == 1
    case.validate_response(response, checks=CHECKS)


# The pool of connections takes a random number in the service's thread, while this thread draws.
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Do not use the `random` module inside strategies")
def test_generated_requests_are_answered_as_documented(address: str) -> None:
    schema = schemathesis.openapi.from_url(f"{address}/openapi.json")
    auth = SignedRequests()
    for found in schema.get_all_operations():
        operation: Any = found.ok()  # type: ignore[union-attr]

        @settings(
            max_examples=EXAMPLES,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy())
        def answered_as_documented(case: Any) -> None:
            # The signature is the client's, because a generated header would only be refused.
            case.headers.pop(signatures.HEADER, None)
            if isinstance(waits := (case.query or {}).get("wait"), int) and waits > 1:
                case.query["wait"] = 1  # a poll may wait much longer
            response = case.call(auth=auth, timeout=20)
            case.validate_response(response, checks=CHECKS)

        answered_as_documented()
