from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class UpgradePolicy(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    UPGRADE_POLICY_UNSPECIFIED: _ClassVar[UpgradePolicy]
    UPGRADE_POLICY_CARRY: _ClassVar[UpgradePolicy]
    UPGRADE_POLICY_SHADOW: _ClassVar[UpgradePolicy]

class UnloadPolicy(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    UNLOAD_POLICY_UNSPECIFIED: _ClassVar[UnloadPolicy]
    UNLOAD_POLICY_WAIT: _ClassVar[UnloadPolicy]
    UNLOAD_POLICY_MOVE: _ClassVar[UnloadPolicy]
UPGRADE_POLICY_UNSPECIFIED: UpgradePolicy
UPGRADE_POLICY_CARRY: UpgradePolicy
UPGRADE_POLICY_SHADOW: UpgradePolicy
UNLOAD_POLICY_UNSPECIFIED: UnloadPolicy
UNLOAD_POLICY_WAIT: UnloadPolicy
UNLOAD_POLICY_MOVE: UnloadPolicy

class LoadModelRequest(_message.Message):
    __slots__ = ("name", "version", "policy")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    POLICY_FIELD_NUMBER: _ClassVar[int]
    name: str
    version: int
    policy: UpgradePolicy
    def __init__(self, name: _Optional[str] = ..., version: _Optional[int] = ..., policy: _Optional[_Union[UpgradePolicy, str]] = ...) -> None: ...

class PromoteModelRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class RollbackModelRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class ModelChange(_message.Message):
    __slots__ = ("version", "moved", "stayed")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    MOVED_FIELD_NUMBER: _ClassVar[int]
    STAYED_FIELD_NUMBER: _ClassVar[int]
    version: int
    moved: int
    stayed: int
    def __init__(self, version: _Optional[int] = ..., moved: _Optional[int] = ..., stayed: _Optional[int] = ...) -> None: ...

class UnloadModelRequest(_message.Message):
    __slots__ = ("name", "version", "policy")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    POLICY_FIELD_NUMBER: _ClassVar[int]
    name: str
    version: int
    policy: UnloadPolicy
    def __init__(self, name: _Optional[str] = ..., version: _Optional[int] = ..., policy: _Optional[_Union[UnloadPolicy, str]] = ...) -> None: ...

class UnloadModelResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListSessionsRequest(_message.Message):
    __slots__ = ("model", "limit", "after")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    model: str
    limit: int
    after: str
    def __init__(self, model: _Optional[str] = ..., limit: _Optional[int] = ..., after: _Optional[str] = ...) -> None: ...

class ListSessionsResponse(_message.Message):
    __slots__ = ("sessions", "total")
    SESSIONS_FIELD_NUMBER: _ClassVar[int]
    TOTAL_FIELD_NUMBER: _ClassVar[int]
    sessions: _containers.RepeatedCompositeFieldContainer[Session]
    total: int
    def __init__(self, sessions: _Optional[_Iterable[_Union[Session, _Mapping]]] = ..., total: _Optional[int] = ...) -> None: ...

class GetSessionRequest(_message.Message):
    __slots__ = ("session_id",)
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    def __init__(self, session_id: _Optional[str] = ...) -> None: ...

class GetSessionResponse(_message.Message):
    __slots__ = ("session", "state")
    class StateEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: bytes
        def __init__(self, key: _Optional[str] = ..., value: _Optional[bytes] = ...) -> None: ...
    SESSION_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    session: Session
    state: _containers.ScalarMap[str, bytes]
    def __init__(self, session: _Optional[_Union[Session, _Mapping]] = ..., state: _Optional[_Mapping[str, bytes]] = ...) -> None: ...

class Session(_message.Message):
    __slots__ = ("session_id", "model", "version", "epoch", "settled_seq", "acked_seq", "durable_seq", "last_timestamp_ns", "idle_s", "attached", "verdicts", "owner", "latency_s")
    class VerdictsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    SETTLED_SEQ_FIELD_NUMBER: _ClassVar[int]
    ACKED_SEQ_FIELD_NUMBER: _ClassVar[int]
    DURABLE_SEQ_FIELD_NUMBER: _ClassVar[int]
    LAST_TIMESTAMP_NS_FIELD_NUMBER: _ClassVar[int]
    IDLE_S_FIELD_NUMBER: _ClassVar[int]
    ATTACHED_FIELD_NUMBER: _ClassVar[int]
    VERDICTS_FIELD_NUMBER: _ClassVar[int]
    OWNER_FIELD_NUMBER: _ClassVar[int]
    LATENCY_S_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    model: str
    version: int
    epoch: int
    settled_seq: int
    acked_seq: int
    durable_seq: int
    last_timestamp_ns: int
    idle_s: float
    attached: bool
    verdicts: _containers.ScalarMap[str, int]
    owner: str
    latency_s: float
    def __init__(self, session_id: _Optional[str] = ..., model: _Optional[str] = ..., version: _Optional[int] = ..., epoch: _Optional[int] = ..., settled_seq: _Optional[int] = ..., acked_seq: _Optional[int] = ..., durable_seq: _Optional[int] = ..., last_timestamp_ns: _Optional[int] = ..., idle_s: _Optional[float] = ..., attached: bool = ..., verdicts: _Optional[_Mapping[str, int]] = ..., owner: _Optional[str] = ..., latency_s: _Optional[float] = ...) -> None: ...

class WatchRequest(_message.Message):
    __slots__ = ("period_s", "sessions")
    PERIOD_S_FIELD_NUMBER: _ClassVar[int]
    SESSIONS_FIELD_NUMBER: _ClassVar[int]
    period_s: float
    sessions: int
    def __init__(self, period_s: _Optional[float] = ..., sessions: _Optional[int] = ...) -> None: ...

class Overview(_message.Message):
    __slots__ = ("models", "sessions", "total")
    MODELS_FIELD_NUMBER: _ClassVar[int]
    SESSIONS_FIELD_NUMBER: _ClassVar[int]
    TOTAL_FIELD_NUMBER: _ClassVar[int]
    models: _containers.RepeatedCompositeFieldContainer[ModelFigures]
    sessions: _containers.RepeatedCompositeFieldContainer[SessionFigures]
    total: int
    def __init__(self, models: _Optional[_Iterable[_Union[ModelFigures, _Mapping]]] = ..., sessions: _Optional[_Iterable[_Union[SessionFigures, _Mapping]]] = ..., total: _Optional[int] = ...) -> None: ...

class ModelFigures(_message.Message):
    __slots__ = ("name", "version", "role", "sessions", "waiting_rows", "rows_per_s", "verdicts", "failed_turns", "mean_batch", "queue_p50_s", "queue_p99_s", "compute_p50_s", "compute_p99_s")
    class VerdictsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    ROLE_FIELD_NUMBER: _ClassVar[int]
    SESSIONS_FIELD_NUMBER: _ClassVar[int]
    WAITING_ROWS_FIELD_NUMBER: _ClassVar[int]
    ROWS_PER_S_FIELD_NUMBER: _ClassVar[int]
    VERDICTS_FIELD_NUMBER: _ClassVar[int]
    FAILED_TURNS_FIELD_NUMBER: _ClassVar[int]
    MEAN_BATCH_FIELD_NUMBER: _ClassVar[int]
    QUEUE_P50_S_FIELD_NUMBER: _ClassVar[int]
    QUEUE_P99_S_FIELD_NUMBER: _ClassVar[int]
    COMPUTE_P50_S_FIELD_NUMBER: _ClassVar[int]
    COMPUTE_P99_S_FIELD_NUMBER: _ClassVar[int]
    name: str
    version: int
    role: str
    sessions: int
    waiting_rows: int
    rows_per_s: float
    verdicts: _containers.ScalarMap[str, int]
    failed_turns: int
    mean_batch: float
    queue_p50_s: float
    queue_p99_s: float
    compute_p50_s: float
    compute_p99_s: float
    def __init__(self, name: _Optional[str] = ..., version: _Optional[int] = ..., role: _Optional[str] = ..., sessions: _Optional[int] = ..., waiting_rows: _Optional[int] = ..., rows_per_s: _Optional[float] = ..., verdicts: _Optional[_Mapping[str, int]] = ..., failed_turns: _Optional[int] = ..., mean_batch: _Optional[float] = ..., queue_p50_s: _Optional[float] = ..., queue_p99_s: _Optional[float] = ..., compute_p50_s: _Optional[float] = ..., compute_p99_s: _Optional[float] = ...) -> None: ...

class SessionFigures(_message.Message):
    __slots__ = ("session", "rows_per_s")
    SESSION_FIELD_NUMBER: _ClassVar[int]
    ROWS_PER_S_FIELD_NUMBER: _ClassVar[int]
    session: Session
    rows_per_s: float
    def __init__(self, session: _Optional[_Union[Session, _Mapping]] = ..., rows_per_s: _Optional[float] = ...) -> None: ...

class SnapshotSessionRequest(_message.Message):
    __slots__ = ("session_id",)
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    def __init__(self, session_id: _Optional[str] = ...) -> None: ...

class SnapshotSessionResponse(_message.Message):
    __slots__ = ("snapshot",)
    SNAPSHOT_FIELD_NUMBER: _ClassVar[int]
    snapshot: bytes
    def __init__(self, snapshot: _Optional[bytes] = ...) -> None: ...

class RestoreSessionRequest(_message.Message):
    __slots__ = ("snapshot", "session_id")
    SNAPSHOT_FIELD_NUMBER: _ClassVar[int]
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    snapshot: bytes
    session_id: str
    def __init__(self, snapshot: _Optional[bytes] = ..., session_id: _Optional[str] = ...) -> None: ...

class RestoreSessionResponse(_message.Message):
    __slots__ = ("session",)
    SESSION_FIELD_NUMBER: _ClassVar[int]
    session: Session
    def __init__(self, session: _Optional[_Union[Session, _Mapping]] = ...) -> None: ...

class ResetSessionRequest(_message.Message):
    __slots__ = ("session_id",)
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    def __init__(self, session_id: _Optional[str] = ...) -> None: ...

class ResetSessionResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class CloseSessionRequest(_message.Message):
    __slots__ = ("session_id",)
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    def __init__(self, session_id: _Optional[str] = ...) -> None: ...

class CloseSessionResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class DrainRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class DrainResponse(_message.Message):
    __slots__ = ("sessions",)
    SESSIONS_FIELD_NUMBER: _ClassVar[int]
    sessions: int
    def __init__(self, sessions: _Optional[int] = ...) -> None: ...
