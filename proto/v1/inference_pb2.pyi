from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ResumeMode(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    RESUME_MODE_UNSPECIFIED: _ClassVar[ResumeMode]
    RESUME_MODE_NEW: _ClassVar[ResumeMode]
    RESUME_MODE_EXISTING: _ClassVar[ResumeMode]

class Keep(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    KEEP_UNSPECIFIED: _ClassVar[Keep]
    KEEP_LAST: _ClassVar[Keep]
    KEEP_DEADLINE: _ClassVar[Keep]

class Late(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    LATE_UNSPECIFIED: _ClassVar[Late]
    LATE_SUPPRESS: _ClassVar[Late]

class TimeGap(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    TIME_GAP_UNSPECIFIED: _ClassVar[TimeGap]
    TIME_GAP_RESET: _ClassVar[TimeGap]

class RowFlag(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ROW_FLAG_UNSPECIFIED: _ClassVar[RowFlag]
    ROW_FLAG_SKIP: _ClassVar[RowFlag]
    ROW_FLAG_REPLAY: _ClassVar[RowFlag]
    ROW_FLAG_NEW_CLOCK: _ClassVar[RowFlag]

class Verdict(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    VERDICT_UNSPECIFIED: _ClassVar[Verdict]
    VERDICT_APPLIED: _ClassVar[Verdict]
    VERDICT_SUPPRESSED: _ClassVar[Verdict]
    VERDICT_STALE: _ClassVar[Verdict]
    VERDICT_INVALID: _ClassVar[Verdict]
    VERDICT_SKIPPED: _ClassVar[Verdict]
    VERDICT_DUPLICATE: _ClassVar[Verdict]
    VERDICT_GAP: _ClassVar[Verdict]
    VERDICT_BUSY: _ClassVar[Verdict]

class ResultFlag(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    RESULT_FLAG_UNSPECIFIED: _ClassVar[ResultFlag]
    RESULT_FLAG_TIME_CLAMPED: _ClassVar[ResultFlag]
    RESULT_FLAG_RESET: _ClassVar[ResultFlag]
    RESULT_FLAG_TIME_RAISED: _ClassVar[ResultFlag]

class Durability(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    DURABILITY_UNSPECIFIED: _ClassVar[Durability]
    DURABILITY_PROCESS: _ClassVar[Durability]
    DURABILITY_POWER: _ClassVar[Durability]

class NoticeKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    NOTICE_KIND_UNSPECIFIED: _ClassVar[NoticeKind]
    NOTICE_KIND_DRAIN: _ClassVar[NoticeKind]
    NOTICE_KIND_FENCED: _ClassVar[NoticeKind]
    NOTICE_KIND_LOST: _ClassVar[NoticeKind]
    NOTICE_KIND_EVICTED: _ClassVar[NoticeKind]
    NOTICE_KIND_RESET: _ClassVar[NoticeKind]

class ModelRole(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    MODEL_ROLE_UNSPECIFIED: _ClassVar[ModelRole]
    MODEL_ROLE_ACTIVE: _ClassVar[ModelRole]
    MODEL_ROLE_OPEN: _ClassVar[ModelRole]
    MODEL_ROLE_RETIRED: _ClassVar[ModelRole]
    MODEL_ROLE_SHADOW: _ClassVar[ModelRole]
RESUME_MODE_UNSPECIFIED: ResumeMode
RESUME_MODE_NEW: ResumeMode
RESUME_MODE_EXISTING: ResumeMode
KEEP_UNSPECIFIED: Keep
KEEP_LAST: Keep
KEEP_DEADLINE: Keep
LATE_UNSPECIFIED: Late
LATE_SUPPRESS: Late
TIME_GAP_UNSPECIFIED: TimeGap
TIME_GAP_RESET: TimeGap
ROW_FLAG_UNSPECIFIED: RowFlag
ROW_FLAG_SKIP: RowFlag
ROW_FLAG_REPLAY: RowFlag
ROW_FLAG_NEW_CLOCK: RowFlag
VERDICT_UNSPECIFIED: Verdict
VERDICT_APPLIED: Verdict
VERDICT_SUPPRESSED: Verdict
VERDICT_STALE: Verdict
VERDICT_INVALID: Verdict
VERDICT_SKIPPED: Verdict
VERDICT_DUPLICATE: Verdict
VERDICT_GAP: Verdict
VERDICT_BUSY: Verdict
RESULT_FLAG_UNSPECIFIED: ResultFlag
RESULT_FLAG_TIME_CLAMPED: ResultFlag
RESULT_FLAG_RESET: ResultFlag
RESULT_FLAG_TIME_RAISED: ResultFlag
DURABILITY_UNSPECIFIED: Durability
DURABILITY_PROCESS: Durability
DURABILITY_POWER: Durability
NOTICE_KIND_UNSPECIFIED: NoticeKind
NOTICE_KIND_DRAIN: NoticeKind
NOTICE_KIND_FENCED: NoticeKind
NOTICE_KIND_LOST: NoticeKind
NOTICE_KIND_EVICTED: NoticeKind
NOTICE_KIND_RESET: NoticeKind
MODEL_ROLE_UNSPECIFIED: ModelRole
MODEL_ROLE_ACTIVE: ModelRole
MODEL_ROLE_OPEN: ModelRole
MODEL_ROLE_RETIRED: ModelRole
MODEL_ROLE_SHADOW: ModelRole

class StreamRequest(_message.Message):
    __slots__ = ("open", "acks", "steps", "close")
    OPEN_FIELD_NUMBER: _ClassVar[int]
    ACKS_FIELD_NUMBER: _ClassVar[int]
    STEPS_FIELD_NUMBER: _ClassVar[int]
    CLOSE_FIELD_NUMBER: _ClassVar[int]
    open: _containers.RepeatedCompositeFieldContainer[Open]
    acks: Acks
    steps: Steps
    close: _containers.RepeatedCompositeFieldContainer[Close]
    def __init__(self, open: _Optional[_Iterable[_Union[Open, _Mapping]]] = ..., acks: _Optional[_Union[Acks, _Mapping]] = ..., steps: _Optional[_Union[Steps, _Mapping]] = ..., close: _Optional[_Iterable[_Union[Close, _Mapping]]] = ...) -> None: ...

class StreamResponse(_message.Message):
    __slots__ = ("opened", "results", "progress", "notices", "failed", "closed")
    OPENED_FIELD_NUMBER: _ClassVar[int]
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    NOTICES_FIELD_NUMBER: _ClassVar[int]
    FAILED_FIELD_NUMBER: _ClassVar[int]
    CLOSED_FIELD_NUMBER: _ClassVar[int]
    opened: _containers.RepeatedCompositeFieldContainer[Opened]
    results: Results
    progress: Progress
    notices: _containers.RepeatedCompositeFieldContainer[Notice]
    failed: _containers.RepeatedCompositeFieldContainer[Failed]
    closed: _containers.RepeatedCompositeFieldContainer[Closed]
    def __init__(self, opened: _Optional[_Iterable[_Union[Opened, _Mapping]]] = ..., results: _Optional[_Union[Results, _Mapping]] = ..., progress: _Optional[_Union[Progress, _Mapping]] = ..., notices: _Optional[_Iterable[_Union[Notice, _Mapping]]] = ..., failed: _Optional[_Iterable[_Union[Failed, _Mapping]]] = ..., closed: _Optional[_Iterable[_Union[Closed, _Mapping]]] = ...) -> None: ...

class Open(_message.Message):
    __slots__ = ("channel", "session_id", "model", "version", "resume", "take_over", "policy", "outputs", "protocol_version")
    CHANNEL_FIELD_NUMBER: _ClassVar[int]
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    RESUME_FIELD_NUMBER: _ClassVar[int]
    TAKE_OVER_FIELD_NUMBER: _ClassVar[int]
    POLICY_FIELD_NUMBER: _ClassVar[int]
    OUTPUTS_FIELD_NUMBER: _ClassVar[int]
    PROTOCOL_VERSION_FIELD_NUMBER: _ClassVar[int]
    channel: int
    session_id: str
    model: str
    version: int
    resume: ResumeMode
    take_over: bool
    policy: Policy
    outputs: _containers.RepeatedScalarFieldContainer[str]
    protocol_version: int
    def __init__(self, channel: _Optional[int] = ..., session_id: _Optional[str] = ..., model: _Optional[str] = ..., version: _Optional[int] = ..., resume: _Optional[_Union[ResumeMode, str]] = ..., take_over: bool = ..., policy: _Optional[_Union[Policy, _Mapping]] = ..., outputs: _Optional[_Iterable[str]] = ..., protocol_version: _Optional[int] = ...) -> None: ...

class Policy(_message.Message):
    __slots__ = ("keep", "keep_last", "late", "gap")
    KEEP_FIELD_NUMBER: _ClassVar[int]
    KEEP_LAST_FIELD_NUMBER: _ClassVar[int]
    LATE_FIELD_NUMBER: _ClassVar[int]
    GAP_FIELD_NUMBER: _ClassVar[int]
    keep: Keep
    keep_last: int
    late: Late
    gap: TimeGap
    def __init__(self, keep: _Optional[_Union[Keep, str]] = ..., keep_last: _Optional[int] = ..., late: _Optional[_Union[Late, str]] = ..., gap: _Optional[_Union[TimeGap, str]] = ...) -> None: ...

class Steps(_message.Message):
    __slots__ = ("channel", "seq", "timestamp_ns", "flags", "budget_us", "columns")
    CHANNEL_FIELD_NUMBER: _ClassVar[int]
    SEQ_FIELD_NUMBER: _ClassVar[int]
    TIMESTAMP_NS_FIELD_NUMBER: _ClassVar[int]
    FLAGS_FIELD_NUMBER: _ClassVar[int]
    BUDGET_US_FIELD_NUMBER: _ClassVar[int]
    COLUMNS_FIELD_NUMBER: _ClassVar[int]
    channel: _containers.RepeatedScalarFieldContainer[int]
    seq: _containers.RepeatedScalarFieldContainer[int]
    timestamp_ns: _containers.RepeatedScalarFieldContainer[int]
    flags: _containers.RepeatedScalarFieldContainer[int]
    budget_us: _containers.RepeatedScalarFieldContainer[int]
    columns: _containers.RepeatedCompositeFieldContainer[Column]
    def __init__(self, channel: _Optional[_Iterable[int]] = ..., seq: _Optional[_Iterable[int]] = ..., timestamp_ns: _Optional[_Iterable[int]] = ..., flags: _Optional[_Iterable[int]] = ..., budget_us: _Optional[_Iterable[int]] = ..., columns: _Optional[_Iterable[_Union[Column, _Mapping]]] = ...) -> None: ...

class Column(_message.Message):
    __slots__ = ("name", "data", "frames")
    NAME_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    FRAMES_FIELD_NUMBER: _ClassVar[int]
    name: str
    data: bytes
    frames: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, name: _Optional[str] = ..., data: _Optional[bytes] = ..., frames: _Optional[_Iterable[bytes]] = ...) -> None: ...

class Results(_message.Message):
    __slots__ = ("channel", "seq", "verdict", "original", "flags", "dt_s", "epoch", "columns", "details", "queue_us", "compute_us", "batch")
    CHANNEL_FIELD_NUMBER: _ClassVar[int]
    SEQ_FIELD_NUMBER: _ClassVar[int]
    VERDICT_FIELD_NUMBER: _ClassVar[int]
    ORIGINAL_FIELD_NUMBER: _ClassVar[int]
    FLAGS_FIELD_NUMBER: _ClassVar[int]
    DT_S_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    COLUMNS_FIELD_NUMBER: _ClassVar[int]
    DETAILS_FIELD_NUMBER: _ClassVar[int]
    QUEUE_US_FIELD_NUMBER: _ClassVar[int]
    COMPUTE_US_FIELD_NUMBER: _ClassVar[int]
    BATCH_FIELD_NUMBER: _ClassVar[int]
    channel: _containers.RepeatedScalarFieldContainer[int]
    seq: _containers.RepeatedScalarFieldContainer[int]
    verdict: _containers.RepeatedScalarFieldContainer[Verdict]
    original: _containers.RepeatedScalarFieldContainer[Verdict]
    flags: _containers.RepeatedScalarFieldContainer[int]
    dt_s: _containers.RepeatedScalarFieldContainer[float]
    epoch: _containers.RepeatedScalarFieldContainer[int]
    columns: _containers.RepeatedCompositeFieldContainer[Column]
    details: _containers.RepeatedCompositeFieldContainer[Detail]
    queue_us: int
    compute_us: int
    batch: int
    def __init__(self, channel: _Optional[_Iterable[int]] = ..., seq: _Optional[_Iterable[int]] = ..., verdict: _Optional[_Iterable[_Union[Verdict, str]]] = ..., original: _Optional[_Iterable[_Union[Verdict, str]]] = ..., flags: _Optional[_Iterable[int]] = ..., dt_s: _Optional[_Iterable[float]] = ..., epoch: _Optional[_Iterable[int]] = ..., columns: _Optional[_Iterable[_Union[Column, _Mapping]]] = ..., details: _Optional[_Iterable[_Union[Detail, _Mapping]]] = ..., queue_us: _Optional[int] = ..., compute_us: _Optional[int] = ..., batch: _Optional[int] = ...) -> None: ...

class Detail(_message.Message):
    __slots__ = ("row", "text", "resend_from")
    ROW_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    RESEND_FROM_FIELD_NUMBER: _ClassVar[int]
    row: int
    text: str
    resend_from: int
    def __init__(self, row: _Optional[int] = ..., text: _Optional[str] = ..., resend_from: _Optional[int] = ...) -> None: ...

class Acks(_message.Message):
    __slots__ = ("channel", "seq")
    CHANNEL_FIELD_NUMBER: _ClassVar[int]
    SEQ_FIELD_NUMBER: _ClassVar[int]
    channel: _containers.RepeatedScalarFieldContainer[int]
    seq: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, channel: _Optional[_Iterable[int]] = ..., seq: _Optional[_Iterable[int]] = ...) -> None: ...

class Opened(_message.Message):
    __slots__ = ("channel", "session_id", "model", "version", "epoch", "settled_seq", "durable_seq", "durability", "resumed", "max_unacked", "credit_rows", "credit_bytes", "idle_ttl_s", "protocol_version", "max_sessions")
    CHANNEL_FIELD_NUMBER: _ClassVar[int]
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    SETTLED_SEQ_FIELD_NUMBER: _ClassVar[int]
    DURABLE_SEQ_FIELD_NUMBER: _ClassVar[int]
    DURABILITY_FIELD_NUMBER: _ClassVar[int]
    RESUMED_FIELD_NUMBER: _ClassVar[int]
    MAX_UNACKED_FIELD_NUMBER: _ClassVar[int]
    CREDIT_ROWS_FIELD_NUMBER: _ClassVar[int]
    CREDIT_BYTES_FIELD_NUMBER: _ClassVar[int]
    IDLE_TTL_S_FIELD_NUMBER: _ClassVar[int]
    PROTOCOL_VERSION_FIELD_NUMBER: _ClassVar[int]
    MAX_SESSIONS_FIELD_NUMBER: _ClassVar[int]
    channel: int
    session_id: str
    model: str
    version: int
    epoch: int
    settled_seq: int
    durable_seq: int
    durability: Durability
    resumed: bool
    max_unacked: int
    credit_rows: int
    credit_bytes: int
    idle_ttl_s: float
    protocol_version: int
    max_sessions: int
    def __init__(self, channel: _Optional[int] = ..., session_id: _Optional[str] = ..., model: _Optional[str] = ..., version: _Optional[int] = ..., epoch: _Optional[int] = ..., settled_seq: _Optional[int] = ..., durable_seq: _Optional[int] = ..., durability: _Optional[_Union[Durability, str]] = ..., resumed: bool = ..., max_unacked: _Optional[int] = ..., credit_rows: _Optional[int] = ..., credit_bytes: _Optional[int] = ..., idle_ttl_s: _Optional[float] = ..., protocol_version: _Optional[int] = ..., max_sessions: _Optional[int] = ...) -> None: ...

class Progress(_message.Message):
    __slots__ = ("channel", "settled_seq", "durable_seq", "lag_ms")
    CHANNEL_FIELD_NUMBER: _ClassVar[int]
    SETTLED_SEQ_FIELD_NUMBER: _ClassVar[int]
    DURABLE_SEQ_FIELD_NUMBER: _ClassVar[int]
    LAG_MS_FIELD_NUMBER: _ClassVar[int]
    channel: _containers.RepeatedScalarFieldContainer[int]
    settled_seq: _containers.RepeatedScalarFieldContainer[int]
    durable_seq: _containers.RepeatedScalarFieldContainer[int]
    lag_ms: int
    def __init__(self, channel: _Optional[_Iterable[int]] = ..., settled_seq: _Optional[_Iterable[int]] = ..., durable_seq: _Optional[_Iterable[int]] = ..., lag_ms: _Optional[int] = ...) -> None: ...

class Notice(_message.Message):
    __slots__ = ("kind", "channel", "text")
    KIND_FIELD_NUMBER: _ClassVar[int]
    CHANNEL_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    kind: NoticeKind
    channel: int
    text: str
    def __init__(self, kind: _Optional[_Union[NoticeKind, str]] = ..., channel: _Optional[int] = ..., text: _Optional[str] = ...) -> None: ...

class Failed(_message.Message):
    __slots__ = ("channel", "code", "field", "text", "retry_after_ms")
    CHANNEL_FIELD_NUMBER: _ClassVar[int]
    CODE_FIELD_NUMBER: _ClassVar[int]
    FIELD_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    RETRY_AFTER_MS_FIELD_NUMBER: _ClassVar[int]
    channel: int
    code: int
    field: str
    text: str
    retry_after_ms: int
    def __init__(self, channel: _Optional[int] = ..., code: _Optional[int] = ..., field: _Optional[str] = ..., text: _Optional[str] = ..., retry_after_ms: _Optional[int] = ...) -> None: ...

class Close(_message.Message):
    __slots__ = ("channel", "end_session")
    CHANNEL_FIELD_NUMBER: _ClassVar[int]
    END_SESSION_FIELD_NUMBER: _ClassVar[int]
    channel: int
    end_session: bool
    def __init__(self, channel: _Optional[int] = ..., end_session: bool = ...) -> None: ...

class Closed(_message.Message):
    __slots__ = ("channel", "settled_seq")
    CHANNEL_FIELD_NUMBER: _ClassVar[int]
    SETTLED_SEQ_FIELD_NUMBER: _ClassVar[int]
    channel: int
    settled_seq: int
    def __init__(self, channel: _Optional[int] = ..., settled_seq: _Optional[int] = ...) -> None: ...

class ListModelsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListModelsResponse(_message.Message):
    __slots__ = ("models",)
    MODELS_FIELD_NUMBER: _ClassVar[int]
    models: _containers.RepeatedCompositeFieldContainer[Model]
    def __init__(self, models: _Optional[_Iterable[_Union[Model, _Mapping]]] = ...) -> None: ...

class GetModelRequest(_message.Message):
    __slots__ = ("name", "version")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    name: str
    version: int
    def __init__(self, name: _Optional[str] = ..., version: _Optional[int] = ...) -> None: ...

class GetModelResponse(_message.Message):
    __slots__ = ("model",)
    MODEL_FIELD_NUMBER: _ClassVar[int]
    model: Model
    def __init__(self, model: _Optional[_Union[Model, _Mapping]] = ...) -> None: ...

class Model(_message.Message):
    __slots__ = ("name", "version", "inputs", "outputs", "aux", "states", "time", "manifest_json", "sessions", "role", "divergence", "decode_cpu_s", "engine_cpu_s")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    INPUTS_FIELD_NUMBER: _ClassVar[int]
    OUTPUTS_FIELD_NUMBER: _ClassVar[int]
    AUX_FIELD_NUMBER: _ClassVar[int]
    STATES_FIELD_NUMBER: _ClassVar[int]
    TIME_FIELD_NUMBER: _ClassVar[int]
    MANIFEST_JSON_FIELD_NUMBER: _ClassVar[int]
    SESSIONS_FIELD_NUMBER: _ClassVar[int]
    ROLE_FIELD_NUMBER: _ClassVar[int]
    DIVERGENCE_FIELD_NUMBER: _ClassVar[int]
    DECODE_CPU_S_FIELD_NUMBER: _ClassVar[int]
    ENGINE_CPU_S_FIELD_NUMBER: _ClassVar[int]
    name: str
    version: int
    inputs: _containers.RepeatedCompositeFieldContainer[Tensor]
    outputs: _containers.RepeatedCompositeFieldContainer[Tensor]
    aux: _containers.RepeatedCompositeFieldContainer[Tensor]
    states: _containers.RepeatedCompositeFieldContainer[Tensor]
    time: Time
    manifest_json: str
    sessions: int
    role: ModelRole
    divergence: _containers.RepeatedCompositeFieldContainer[Divergence]
    decode_cpu_s: float
    engine_cpu_s: float
    def __init__(self, name: _Optional[str] = ..., version: _Optional[int] = ..., inputs: _Optional[_Iterable[_Union[Tensor, _Mapping]]] = ..., outputs: _Optional[_Iterable[_Union[Tensor, _Mapping]]] = ..., aux: _Optional[_Iterable[_Union[Tensor, _Mapping]]] = ..., states: _Optional[_Iterable[_Union[Tensor, _Mapping]]] = ..., time: _Optional[_Union[Time, _Mapping]] = ..., manifest_json: _Optional[str] = ..., sessions: _Optional[int] = ..., role: _Optional[_Union[ModelRole, str]] = ..., divergence: _Optional[_Iterable[_Union[Divergence, _Mapping]]] = ..., decode_cpu_s: _Optional[float] = ..., engine_cpu_s: _Optional[float] = ...) -> None: ...

class Divergence(_message.Message):
    __slots__ = ("output", "rows", "max", "mean", "unusable")
    OUTPUT_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    MAX_FIELD_NUMBER: _ClassVar[int]
    MEAN_FIELD_NUMBER: _ClassVar[int]
    UNUSABLE_FIELD_NUMBER: _ClassVar[int]
    output: str
    rows: int
    max: float
    mean: float
    unusable: int
    def __init__(self, output: _Optional[str] = ..., rows: _Optional[int] = ..., max: _Optional[float] = ..., mean: _Optional[float] = ..., unusable: _Optional[int] = ...) -> None: ...

class Tensor(_message.Message):
    __slots__ = ("name", "shape", "dtype", "labels")
    NAME_FIELD_NUMBER: _ClassVar[int]
    SHAPE_FIELD_NUMBER: _ClassVar[int]
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    name: str
    shape: _containers.RepeatedScalarFieldContainer[int]
    dtype: str
    labels: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, name: _Optional[str] = ..., shape: _Optional[_Iterable[int]] = ..., dtype: _Optional[str] = ..., labels: _Optional[_Iterable[str]] = ...) -> None: ...

class Time(_message.Message):
    __slots__ = ("nominal_s", "min_s", "max_s")
    NOMINAL_S_FIELD_NUMBER: _ClassVar[int]
    MIN_S_FIELD_NUMBER: _ClassVar[int]
    MAX_S_FIELD_NUMBER: _ClassVar[int]
    nominal_s: float
    min_s: float
    max_s: float
    def __init__(self, nominal_s: _Optional[float] = ..., min_s: _Optional[float] = ..., max_s: _Optional[float] = ...) -> None: ...
