"""The HTTP framework of all services: requests, their endpoints, responses, pages and streams.

A service is a table of endpoints. The table is served, and the OpenAPI document is made from it.
"""

from soorma_platform.http.application import Application, Health, SocketEndpoint, StoreHealth
from soorma_platform.http.endpoints import (
    ANYBODY_KNOWN,
    FENCE,
    TENANT_ID,
    USER_ID,
    Choice,
    Endpoint,
    Header,
    Names,
    Number,
    Parameter,
    Part,
    Text,
)
from soorma_platform.http.pages import LONGEST_PAGE, PageLimit, PageSize, page_limit
from soorma_platform.http.requests import Request, UnsupportedMediaType, decode, whole
from soorma_platform.http.responses import (
    JSON,
    PROBLEM,
    Response,
    WholeResponse,
    json_response,
    large_json_response,
    problem,
)
from soorma_platform.http.streams import ServerSent, follow, sent_event

__all__ = [
    "ANYBODY_KNOWN",
    "FENCE",
    "JSON",
    "LONGEST_PAGE",
    "PROBLEM",
    "TENANT_ID",
    "USER_ID",
    "Application",
    "Choice",
    "Endpoint",
    "Header",
    "Health",
    "Names",
    "Number",
    "PageLimit",
    "PageSize",
    "Parameter",
    "Part",
    "Request",
    "Response",
    "ServerSent",
    "SocketEndpoint",
    "StoreHealth",
    "Text",
    "UnsupportedMediaType",
    "WholeResponse",
    "decode",
    "follow",
    "json_response",
    "large_json_response",
    "page_limit",
    "problem",
    "sent_event",
    "whole",
]
