"""What a server can be told: one TOML file, then environment variables, then flags, the later ones winning.

The docstrings of the settings are what `docs/configuration.md` says of them.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationError, model_validator
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from statestream.models.bundle import first_problem
from statestream.service.addresses import is_local
from statestream.service.errors import InvalidArgument

DEFAULT_FILE = Path("/etc/statestream/server.toml")
"""What `serve` reads where it is told of no other file, if it is there."""
ENV_PREFIX = "STATESTREAM_"

Count = Annotated[int, Field(gt=0)]
Seconds = Annotated[float, Field(gt=0)]
Rate = Annotated[float, Field(ge=0)]
Provider = Literal["cpu", "xnnpack", "cuda", "tensorrt"]


def _split(value: Any) -> Any:
    """What environment variables and flags say of a list: `a,b`."""
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return value


Names = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)]
Providers = Annotated[tuple[Provider, ...], NoDecode, BeforeValidator(_split)]


def file_to_read(named: Path | None) -> Path | None:
    """The file that was named, else the usual one where there is one."""
    return named or (DEFAULT_FILE if os.path.lexists(DEFAULT_FILE) else None)


class ServerConfig(BaseSettings):
    """Configuration of one server. Environment variables are `STATESTREAM_` and the field's name in capitals."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX, frozen=True, extra="forbid", use_attribute_docstrings=True, validate_default=True
    )

    repository: Path = Path("repository")
    """Folder of bundles, `NAME/VERSION/`."""
    address: str = "127.0.0.1:50051"
    """`host:port` (port 0: any free one) or `unix:/path`. One that other machines can reach needs TLS."""
    admin_address: str = ""
    """Where the `Admin` service is offered, alone; empty: at `address`, beside the others. At a socket, `unix:/path`,
    it asks for no proof: whoever may open the file operates the server. Worker k's is at the port k higher, or at the
    socket whose name ends in `.k`."""
    tls_cert: Path | None = None
    """PEM of the server's certificate and those between it and its authority: the server speaks TLS. It and the other
    files of TLS are read again when they change."""
    tls_key: Path | None = None
    """PEM of its private key."""
    tls_client_ca: Path | None = None
    """PEM of the authority whose certificates clients must show. A client's name is its certificate's common name."""
    clients: Path | None = None
    """File of who may do what, and of their hashed tokens (see `statestream tokens`), read again when it changes."""
    insecure_public: bool = False
    """Whether addresses that other machines can reach may be without TLS: a proxy in between has it, or nobody does."""
    audit_log: Path | None = None
    """File for a line of JSON for each call of the `Admin` service; they are in the log in any case."""
    models: Names = ()
    """Names to load, `NAME` or `NAME:VERSION`; empty: the newest version of each."""
    providers: Providers = ("cuda", "cpu")
    """What runs the graphs, the preferred first; those not there are passed over."""
    threads: Count = 1
    """Threads of ONNX Runtime within an operator."""
    engine_cache: Path = Path("engines")
    """Folder of TensorRT's engines, which `statestream warmup` builds and `serve` only reads."""
    workers: Count = 1
    """Processes that share the port, each on a core of its own with the sessions of its connections. A session can be
    resumed by any of them where there is a store; worker k's metrics and page are at ports k higher."""
    max_sessions: Count = 100_000
    """Sessions of all models; one more is refused."""
    max_sessions_per_client: Count = 10_000
    """Sessions of one client, by its name; those of a server that knows no names do not count."""
    max_streams: Count = 10_000
    """Streams at once; one more is refused."""
    max_streams_per_client: Count = 1_000
    """Streams of one client at once, by its name."""
    max_steps_per_s: Rate = 0.0
    """Steps a second of all clients; what is more waits, up to ten seconds, beyond which its stream ends with
    RESOURCE_EXHAUSTED. 0: as many as come."""
    max_steps_per_s_per_client: Rate = 0.0
    """Steps a second of one client, by its name; see `max_steps_per_s`."""
    idle_stream_s: Seconds = 300.0
    """A stream without a session for so long is ended."""
    idle_ttl_s: Seconds = 3600.0
    """A session that no stream has held for so long is dropped."""
    store: str = "memory"
    """Where snapshots of sessions are kept: `memory` (nowhere; they end with the process), `sqlite:PATH`, or
    `redis://HOST:PORT/DB` for several servers."""
    store_tick_s: Seconds = 1.0
    """How often sessions that changed are stored: what clients send again after a crash, and how fast flash wears."""
    max_resident: Count = 100_000
    """Sessions in memory where there is a store; those that no stream holds are dropped from it beyond that."""
    spill_after_s: Seconds = 600.0
    """Where there is a store, a session that no stream has held for so long is dropped from memory."""
    credit_rows: Count = 1024
    """Rows of one session that may wait at once."""
    credit_bytes: Count = 16 << 20
    """Bytes of one stream that may wait at once."""
    max_unacked: Count = 4096
    """Settled rows of a session whose outputs are kept until acknowledged."""
    max_message_bytes: Count = 4 << 20
    """Largest message a client may send."""
    max_message_rows: Count = 65_536
    """Rows in one message; also its sessions opened, acknowledged and closed."""
    max_decoded_bytes: Count = 64 << 20
    """Bytes of decoded pictures of one model at once; a bundle of which a single row has more is refused."""
    decode_threads: Count = 2
    """Threads that decode pictures, for all models."""
    max_waiting_bytes: Count = 256 << 20
    """Bytes that may wait for all clients together, of rows for their turn and of answers to be read; beyond it the
    streams that have much of it are ended."""
    max_batch: Count = 1024
    """Sessions in one run of the engine."""
    max_turn_ms: Seconds = 5.0
    """How long one turn should last at most, so that a long chunk does not hold up others."""
    drain_s: Annotated[float, Field(ge=0)] = 10.0
    """How long a drain waits for clients to leave."""
    drain_wait_s: Annotated[float, Field(ge=0)] = 0.0
    """How long a drain tells its health before it refuses sessions, so that proxies look elsewhere; none on Ctrl-C."""
    record: Path | None = None
    """Folder for what sessions send and hear, to be replayed; none: it is not recorded."""
    metrics_address: str = ""
    """`host:port` of the Prometheus endpoint; empty: none."""
    http_address: str = ""
    """`host:port` of the page that shows what the server is doing, https where there is `tls_cert`; empty: none."""
    stuck_s: Seconds = 60.0
    """An engine that has run one turn for so long, or an event loop that has stood still for so long, is stuck: health
    says NOT_SERVING and the process ends, so that its supervisor starts another."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """The least that is logged."""
    log_format: Literal["text", "json"] = "text"
    """Lines for people, or an object of JSON a line."""

    @model_validator(mode="after")
    def _secure(self) -> ServerConfig:
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ValueError("tls_cert and tls_key go together")
        if self.tls_client_ca is not None and self.tls_cert is None:
            raise ValueError("tls_client_ca needs tls_cert and tls_key")
        plain = {"metrics_address": self.metrics_address}
        if self.tls_cert is None:
            plain |= {"address": self.address, "admin_address": self.admin_address, "http_address": self.http_address}
        for name, address in plain.items():
            if address and not is_local(address) and not self.insecure_public:
                raise ValueError(
                    f"{name}: {address} can be reached by other machines, without TLS; give it a certificate "
                    "(tls_cert, tls_key) or say insecure_public"
                )
        return self

    @property
    def asks(self) -> bool:
        """Whether callers have to show who they are."""
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
        toml = (TomlConfigSettingsSource(settings_cls, file),) if file else ()
        return (init_settings, env_settings, *toml)

    @classmethod
    def load(cls, file: Path | None = None, **flags: Any) -> ServerConfig:
        """Configuration from `file`, the environment and `flags` (those that are None do not count).

        Raises:
            InvalidArgument: naming the field and the value it got.
        """
        given = {name: value for name, value in flags.items() if value is not None}
        try:
            if file is None:
                return cls(**given)
            with file.open("rb"):  # the reader of TOML passes over a file that is not there
                pass
            from_file = type("ServerConfig", (cls,), {"model_config": {**cls.model_config, "toml_file": file}})
            config: ServerConfig = from_file(**given)
            return config
        except ValidationError as error:
            raise InvalidArgument(first_problem(error).removeprefix("Value error, "), field="config") from error
        except OSError as error:
            raise InvalidArgument(f"cannot read {file}: {error.strerror}", field="config") from error
        except ValueError as error:
            raise InvalidArgument(f"{file}: {error}", field="config") from error

    def to_toml(self) -> str:
        """As a file that `load` reads; settings that are none stand there as comments."""
        return "".join(_line(name, value) for name, value in self.model_dump(mode="json").items())


def _line(name: str, value: Any) -> str:
    # Strings, numbers, booleans and lists of strings are written alike in JSON and TOML.
    return f"# {name} is not set\n" if value is None else f"{name} = {json.dumps(value, ensure_ascii=False)}\n"
