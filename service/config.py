"""Server settings: from a TOML file, environment variables and flags; later ones override earlier ones.

The docstrings of the settings are the text of `docs/configuration.md`.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationError, ValidationInfo, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from statestream.models.files import read_text
from statestream.models.problems import first_problem
from statestream.service.addresses import check_listening, is_local, is_socket, shifted
from statestream.service.errors import InvalidArgument

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

DEFAULT_FILE = Path("/etc/statestream/server.toml")
"""File that `serve` reads if it exists and no other is named."""
ENV_PREFIX = "STATESTREAM_"

Count = Annotated[int, Field(gt=0)]
Seconds = Annotated[float, Field(gt=0.0)]
Rate = Annotated[float, Field(ge=0.0)]
Provider = Literal["cpu", "xnnpack", "cuda", "tensorrt"]


def _split(value: Any) -> Any:
    """Split a list from an environment variable or flag: `a,b`."""
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return value


Names = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)]
Providers = Annotated[tuple[Provider, ...], NoDecode, BeforeValidator(_split)]


def file_to_read(named: Path | None) -> Path | None:
    """The file that was named, otherwise the default file if it exists."""
    return named or (DEFAULT_FILE if os.path.lexists(DEFAULT_FILE) else None)


class _TomlSource(TomlConfigSettingsSource):
    """A TOML file that may begin with a byte order mark."""

    def _read_file(self, file_path: Any) -> dict[str, Any]:
        return tomllib.loads(read_text(file_path))


class ServerConfig(BaseSettings):
    """Settings of one server. Environment variables are `STATESTREAM_` and the setting's name in capitals."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX, frozen=True, extra="forbid", use_attribute_docstrings=True, validate_default=True
    )

    repository: Path = Path("repository")
    """Folder of bundles, `NAME/VERSION/`."""
    address: str = "127.0.0.1:50051"
    """Address of the service: `host:port` (port 0: any free one) or `unix:/path`. One that other machines can reach
    needs TLS.
    """
    transport: Literal["auto", "grpc", "native"] = "auto"
    """What reads and writes the connections: gRPC's library (`grpc`), or HTTP/2 in C++ (`native`), which takes less CPU
    time and is built where a compiler and nghttp2 are; `auto`: the native one if it was built and uvloop runs.
    """
    engine: Literal["auto", "native", "python"] = "auto"
    """What runs turns of plain rows where the CPU runs the model: Python (`python`), or C++ (`native`), which takes
    less CPU time and is built where a compiler is; `auto`: the native one if it was built and works with the
    onnxruntime that is installed. Results are the same, bit by bit.
    """
    admin_address: str = ""
    """Address where the `Admin` service is offered, alone; empty: at `address`, beside the others. At a socket,
    `unix:/path`, it requires no authentication: every user who may open the file operates the server. Worker k adds k
    to the port, or `.k` to the name of the socket.
    """
    tls_cert: Path | None = None
    """PEM file with the server's certificate and any intermediate ones; turns TLS on. All TLS files are read again when
    they change.
    """
    tls_key: Path | None = None
    """PEM file with the certificate's private key."""
    tls_client_ca: Path | None = None
    """PEM file of the authority for clients' certificates. A client's name is its certificate's common name."""
    clients: Path | None = None
    """File of clients, roles and hashed tokens (see `statestream tokens`). It is read again when it changes."""
    insecure_public: bool = False
    """Allow public addresses without TLS. Needed where a proxy has the TLS, or the network is trusted."""
    audit_log: Path | None = None
    """File with a JSON line for each call of the `Admin` service; the log has them in any case."""
    models: Names = ()
    """Models to load, `NAME` or `NAME:VERSION`; empty: the newest version of each."""
    providers: Providers = ("cuda", "cpu")
    """Execution providers that run the graphs, the preferred first; those not available are skipped."""
    threads: Count = 1
    """Threads of ONNX Runtime within an operator."""
    engine_cache: Path = Path("engines")
    """Folder of TensorRT's engines, which `statestream warmup` builds and `serve` only reads."""
    workers: Count = 1
    """Processes that share the port. Each has a core of its own and the sessions of its connections. With a store, any
    of them can resume a session. Worker k adds k to the ports of metrics and page.
    """
    max_sessions: Count = 100_000
    """Most sessions of all models together; another open is refused."""
    max_sessions_per_client: Count = 10_000
    """Most sessions of one client, by its name; anonymous clients are not limited."""
    max_streams: Count = 10_000
    """Most streams at once; another one is refused."""
    max_streams_per_client: Count = 1_000
    """Most streams of one client at once, by its name."""
    max_steps_per_s: Rate = 0.0
    """Most steps a second of all clients together. Steps beyond it wait; a stream whose steps would wait for more than
    ten seconds ends with RESOURCE_EXHAUSTED. 0: no limit.
    """
    max_steps_per_s_per_client: Rate = 0.0
    """Most steps a second of one client, by its name; see `max_steps_per_s`."""
    idle_stream_s: Seconds = 300.0
    """Close a stream that has had no open session for this long."""
    idle_ttl_s: Seconds = 3600.0
    """Delete a session that no stream has had attached for this long."""
    store: str = "memory"
    """Store of session snapshots: `memory` (none; sessions end with the process), `sqlite:PATH`, or
    `redis://HOST:PORT/DB` for several servers (also `redis+sentinel://…` and `redis+cluster://…`).
    """
    store_damaged: Literal["set_aside", "refuse"] = "set_aside"
    """With `sqlite:PATH`, what to do if the file is damaged: `set_aside` renames it and continues with the sessions
    that can be read, `refuse` does not start.
    """
    store_tick_s: Seconds = 1.0
    """Interval between saves of the sessions that changed. A longer one means more to send again after a crash, a
    shorter one more wear of flash storage.
    """
    max_resident: Count = 100_000
    """Most sessions in memory where there is a store; beyond it, detached sessions are evicted from memory."""
    spill_after_s: Seconds = 600.0
    """With a store, evict sessions from memory when detached for this long."""
    credit_rows: Count = 1024
    """Most rows of one session that may wait at once."""
    credit_bytes: Count = 16 << 20
    """Most bytes of one stream that may wait at once."""
    max_unacked: Count = 4096
    """Most settled rows a session keeps until their outputs are acknowledged."""
    max_message_bytes: Count = 4 << 20
    """Size of the largest message a client may send."""
    max_message_rows: Count = 65_536
    """Most rows in one message; also the most sessions that it opens, acknowledges and closes."""
    max_decoded_bytes: Count = 64 << 20
    """Most bytes of decoded images of one model at once; a bundle with larger rows is refused."""
    decode_threads: Count = 2
    """Threads that decode images, for all models together."""
    max_waiting_bytes: Count = 256 << 20
    """Most bytes that may wait for all clients together: rows for their turn, and responses to be read. Beyond it,
    streams that hold much of it are closed.
    """
    max_batch: Count = 1024
    """Most sessions in one run of the engine."""
    max_turn_ms: Seconds = 5.0
    """Target for the longest turn: long chunks must not delay other sessions."""
    drain_s: Annotated[float, Field(ge=0.0)] = 10.0
    """How long a drain waits for clients to leave."""
    drain_wait_s: Annotated[float, Field(ge=0.0)] = 0.0
    """How long a drain reports NOT_SERVING before it refuses sessions. Proxies choose another server meanwhile. Not on
    Ctrl-C.
    """
    record: Path | None = None
    """Folder for recordings of what sessions send and receive, to be replayed; none: nothing is recorded."""
    metrics_address: str = ""
    """`host:port` of the Prometheus endpoint; empty: none."""
    http_address: str = ""
    """`host:port` of the dashboard page, https where there is `tls_cert`; empty: none."""
    stuck_s: Seconds = 60.0
    """Time after which a turn or a blocked event loop is stuck. Health reports NOT_SERVING and the
    process ends, so that its supervisor starts another.
    """
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """Lowest level that is logged."""
    log_format: Literal["text", "json"] = "text"
    """Format of log lines: text for people, or a JSON object a line."""

    @field_validator("address", "admin_address", "metrics_address", "http_address")
    @classmethod
    def _an_address(cls, value: str, info: ValidationInfo) -> str:
        if value or info.field_name == "address":
            check_listening(value, sockets=info.field_name in ("address", "admin_address"))
        return value

    @model_validator(mode="after")
    def _secure(self) -> ServerConfig:
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ValueError("tls_cert and tls_key must be set together")
        if self.tls_client_ca is not None and self.tls_cert is None:
            raise ValueError("tls_client_ca needs tls_cert and tls_key")
        plain = {"metrics_address": self.metrics_address}
        if self.tls_cert is None:
            plain |= {"address": self.address, "admin_address": self.admin_address, "http_address": self.http_address}
        for name, address in plain.items():
            if address and not is_local(address) and not self.insecure_public:
                raise ValueError(
                    f"{name}: {address} can be reached by other machines, without TLS; give it a certificate "
                    "(tls_cert, tls_key) or set insecure_public"
                )
        return self

    @model_validator(mode="after")
    def _ports_of_workers(self) -> ServerConfig:
        """The last worker's ports are the highest: none may lie beyond the last there is."""
        for name in ("admin_address", "metrics_address", "http_address"):
            address = shifted(getattr(self, name), self.workers - 1)
            try:
                if address and not is_socket(address):
                    check_listening(address, sockets=True)
            except ValueError as error:
                raise ValueError(f"{name}: the last of {self.workers} workers would be at {address}: {error}") from None
        return self

    @property
    def asks(self) -> bool:
        """Whether callers must authenticate."""
        return self.clients is not None or self.tls_client_ca is not None

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        file = settings_cls.model_config.get("toml_file")
        toml = (_TomlSource(settings_cls, file),) if file else ()
        return (init_settings, env_settings, *toml)

    @classmethod
    def load(cls, file: Path | None = None, **flags: Any) -> ServerConfig:
        """Read the settings from `file`, the environment and `flags`; flags that are None are ignored.

        Raises:
            InvalidArgument: a setting is invalid; the message names it and its value.
        """
        given = {name: value for name, value in flags.items() if value is not None}
        try:
            if file is None:
                return cls(**given)
            with file.open("rb"):  # the TOML reader ignores a missing file
                pass
            from_file = type("ServerConfig", (cls,), {"model_config": {**cls.model_config, "toml_file": file}})
            config: ServerConfig = from_file(**given)
            return config
        except ValidationError as error:
            raise InvalidArgument(first_problem(error, cls), field="config") from error
        except OSError as error:
            raise InvalidArgument(f"cannot read {file}: {error.strerror}", field="config") from error
        except ValueError as error:
            raise InvalidArgument(f"{file}: {error}", field="config") from error

    def to_toml(self) -> str:
        """Write settings as a file that `load` reads; unset ones are comments."""
        return "".join(_line(name, value) for name, value in self.model_dump(mode="json").items())


def _line(name: str, value: Any) -> str:
    # Strings, numbers, booleans and lists of strings are written alike in JSON and TOML.
    return f"# {name} is not set\n" if value is None else f"{name} = {json.dumps(value, ensure_ascii=False)}\n"
