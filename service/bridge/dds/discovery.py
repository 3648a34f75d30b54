"""Endpoints of others, as Cyclone DDS discovers them, and what follows where they do not match ours."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from typing import Any
from uuid import UUID

from cyclonedds.builtin import (
    BuiltinDataReader,
    BuiltinTopic,
    BuiltinTopicDcpsPublication,
    BuiltinTopicDcpsSubscription,
)
from cyclonedds.domain import DomainParticipant
from cyclonedds.sub import DataReader

from statestream.service.bridge.dds.calls import matched, unmatched_policy
from statestream.service.bridge.dds.matching import OTHER_POLICIES, Endpoint, mismatch
from statestream.service.bridge.dds.topic import DdsTopic
from statestream.service.bridge.middleware import MiddlewareError

_log = logging.getLogger(__name__)
_AT_ONCE = 64


class Discovery:
    """Refuses publishers that do not match, and warns of subscribers that do not.

    Args:
        readers: of the topics that are received.
        published: the topic that is offered.
    """

    def __init__(
        self, participant: DomainParticipant, readers: Mapping[DdsTopic, DataReader[Any]], published: DdsTopic
    ) -> None:
        self._readers = readers
        self._published = published
        self._writers_of_others = _Endpoints(participant, BuiltinTopicDcpsPublication)
        self._readers_of_others = _Endpoints(participant, BuiltinTopicDcpsSubscription)
        self._warned: set[str] = set()

    def look(self) -> None:
        """Learn of endpoints that have come and gone.

        Raises:
            MiddlewareError: a topic has publishers, but none that matches.
        """
        self._writers_of_others.update()
        self._readers_of_others.update()
        for topic, reader in self._readers.items():
            for problem in self._problems(topic, reader):
                if not matched(reader):
                    raise MiddlewareError(problem, field=topic.spec.name)
                self._warn(f"{topic.spec.name}: {problem}; others match")
        for theirs in self._readers_of_others.of(self._published.name):
            if (found := mismatch(self._published.endpoint, theirs)) is not None:
                self._warn(
                    f"{self._published.spec.name}: a subscriber asks for {found.setting} {found.asked}, offered is "
                    f"{found.offered}: it gets no predictions"
                )

    def _problems(self, topic: DdsTopic, reader: DataReader[Any]) -> Iterator[str]:
        for theirs in self._writers_of_others.of(topic.name):
            if (found := mismatch(theirs, topic.endpoint)) is not None:
                yield (
                    f"a publisher offers {found.setting} {found.offered}, asked for is {found.asked}; "
                    f'set {found.setting} = "{found.offered}" for this topic'
                )
        if (policy := unmatched_policy(reader)) in OTHER_POLICIES:
            yield f"a publisher does not match by its {OTHER_POLICIES[policy]}"

    def _warn(self, text: str) -> None:
        if text not in self._warned:
            self._warned.add(text)
            _log.warning(text)


class _Endpoints:
    """Readers or writers that exist now, in all of a domain."""

    def __init__(self, participant: DomainParticipant, kind: BuiltinTopic) -> None:
        self._reader = BuiltinDataReader(participant, kind)
        self._found: dict[UUID, tuple[str, Endpoint]] = {}

    def update(self) -> None:
        while samples := self._reader.take(_AT_ONCE):
            for sample in samples:
                self._add(sample)

    def of(self, topic: str) -> list[Endpoint]:
        """Endpoints on a topic, named as in DDS."""
        return [endpoint for name, endpoint in self._found.values() if name == topic]

    def _add(self, sample: Any) -> None:
        if sample.sample_info.valid_data:
            self._found[sample.key] = sample.topic_name, Endpoint.of(sample.type_name, sample.qos)
        else:
            self._found.pop(sample.key, None)
