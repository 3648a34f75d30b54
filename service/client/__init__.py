"""The client: opens sessions on a server; numpy in, numpy out.

`connect` and `Client` block; `AsyncClient` is for asyncio. Errors are those of `statestream.service.errors`, and
`Fenced` and `SessionLost`.
"""

from statestream.models.relative import Relative
from statestream.service.client.admin import AsyncAdmin, SessionInfo, SessionPage
from statestream.service.client.aio import AsyncClient
from statestream.service.client.credentials import Access
from statestream.service.client.errors import Fenced, SessionLost
from statestream.service.client.group import Group
from statestream.service.client.merge import Ordering, Sensor, merge
from statestream.service.client.model_info import ModelInfo
from statestream.service.client.notices import Notice, NoticeKind
from statestream.service.client.policy import Policy
from statestream.service.client.results import ChunkResult, StepResult
from statestream.service.client.session import AsyncSession
from statestream.service.client.stream import AsyncStream
from statestream.service.client.sync import Admin, Client, Session, Stream, SyncGroup, connect
from statestream.service.protocol.verdict import ResultFlag, RowFlag, Verdict

__all__ = [
    "Access",
    "Admin",
    "AsyncAdmin",
    "AsyncClient",
    "AsyncSession",
    "AsyncStream",
    "ChunkResult",
    "Client",
    "Fenced",
    "Group",
    "ModelInfo",
    "Notice",
    "NoticeKind",
    "Ordering",
    "Policy",
    "Relative",
    "ResultFlag",
    "RowFlag",
    "Sensor",
    "Session",
    "SessionInfo",
    "SessionLost",
    "SessionPage",
    "StepResult",
    "Stream",
    "SyncGroup",
    "Verdict",
    "connect",
    "merge",
]
