"""Log formats: text for people, or a JSON object a line for log collectors."""

from __future__ import annotations

import json
import logging
from datetime import datetime, timezone
from logging.handlers import WatchedFileHandler

from statestream.service.auth import audit
from statestream.service.config import ServerConfig

_FIELDS = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class JsonFormatter(logging.Formatter):
    """Formats a record as JSON: `time` (UTC), `level`, `logger`, `message`.

    Also `who` in one of several processes, `exception` if there is one, and the call's `extra` fields.
    """

    def __init__(self, who: str = "") -> None:
        super().__init__()
        self._who = who

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, timezone.utc).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if self._who:
            line["who"] = self._who
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        line |= {name: value for name, value in vars(record).items() if name not in _FIELDS}
        return json.dumps(line, default=str, ensure_ascii=False)


def set_up(config: ServerConfig, who: str = "") -> None:
    """Configure logging of this process; `who` names it in each line, if it is one of several."""
    handler = logging.StreamHandler()
    prefix = f"{who}: " if who else ""
    text = logging.Formatter(f"%(asctime)s %(levelname)-7s {prefix}%(message)s")
    handler.setFormatter(JsonFormatter(who) if config.log_format == "json" else text)
    logging.basicConfig(level=config.log_level.upper(), handlers=[handler])
    if config.audit_log is not None:
        kept = WatchedFileHandler(config.audit_log)
        kept.setFormatter(JsonFormatter(who))
        audit.log.addHandler(kept)
    audit.log.setLevel(logging.INFO)
