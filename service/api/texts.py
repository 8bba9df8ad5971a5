"""The texts of the service's templates, by language."""

from types import NoneType

from starlette.responses import Response

from service.api import texts_schemas
from service.http.call import Call
from service.http.operation import Operation, answered
from service.texts import templates


async def read_messages(call: Call[None, None]) -> Response:
    """The bundle of a locale's language; English where there is none."""
    language = templates.language_of(call.path["locale"])
    answer = texts_schemas.Messages(
        contract_version=templates.CONTRACT_VERSION,
        language=language,
        direction=templates.direction_of(language),
        templates=dict(templates.bundle(language)),
    )
    response = answered(answer, position=call.service.live_log.head)
    response.headers["Content-Language"] = language
    return response


OPERATIONS = (
    Operation(
        method="GET",
        path="/v1/messages/{locale}",
        name="getMessages",
        browsers=True,
        summary="The texts of all templates in a language, with {variables} to be filled in.",
        scopes=("chat", "read", "admin", "build"),
        body=NoneType,
        query=NoneType,
        answer=texts_schemas.Messages,
        problems=(422,),
        handle=read_messages,
    ),
)
