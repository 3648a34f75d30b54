"""Prometheus metrics, read from the runners' counters at each scrape; nothing here is on the data path."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from itertools import accumulate
from wsgiref.simple_server import WSGIServer

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from statestream.service.addresses import split_address
from statestream.service.control.host import Host
from statestream.service.control.persistence import Persistence
from statestream.service.errors import InvalidArgument
from statestream.service.protocol.verdict import Verdict
from statestream.service.recording.recorder import Recorder
from statestream.service.serving.registry import ModelRegistry
from statestream.service.serving.runner import ModelRunner
from statestream.service.serving.shadow import shadow_of
from statestream.service.serving.stats import Histogram, stats_of

_MODEL = ("model", "version")


class ServerCollector(Collector):
    """Metric families of a server's counters.

    Args:
        streams: number of open streams.
        oip_requests: requests of Triton's clients to a model, by outcome.
        refused_calls: refused calls, by status.
        recorder: the recorder of sessions, if there is one.
        transport: what reads and writes the connections.
    """

    def __init__(
        self,
        host: Host,
        *,
        streams: Callable[[], int],
        oip_requests: Callable[[ModelRunner], Mapping[str, int]],
        refused_calls: Callable[[], Mapping[str, int]],
        recorder: Recorder | None,
        transport: str,
    ) -> None:
        self._host = host
        self._streams = streams
        self._oip_requests = oip_requests
        self._refused_calls = refused_calls
        self._recorder = recorder
        self._transport = transport

    def collect(self) -> Iterable[Metric]:
        rows = CounterMetricFamily("statestream_rows", "Rows answered, by verdict.", labels=(*_MODEL, "verdict"))
        failed = CounterMetricFamily("statestream_failed_turns", "Turns that the engine failed to run.", labels=_MODEL)
        decode = CounterMetricFamily("statestream_decode_cpu_seconds", "CPU time of decoding images.", labels=_MODEL)
        engine = CounterMetricFamily("statestream_engine_cpu_seconds", "CPU time of running graphs.", labels=_MODEL)
        sessions = GaugeMetricFamily("statestream_sessions", "Sessions in memory.", labels=_MODEL)
        waiting = GaugeMetricFamily("statestream_waiting_rows", "Rows that wait for a turn.", labels=_MODEL)
        unacked = GaugeMetricFamily(
            "statestream_unacknowledged_bytes", "Results kept until acknowledged.", labels=_MODEL
        )
        queue = HistogramMetricFamily(
            "statestream_queue_seconds", "How long the oldest row of a turn waited.", labels=_MODEL
        )
        compute = HistogramMetricFamily("statestream_compute_seconds", "Duration of a turn.", labels=_MODEL)
        batch = HistogramMetricFamily("statestream_batch_sessions", "Sessions that advanced in a turn.", labels=_MODEL)
        ran = CounterMetricFamily("statestream_engine_rows", "Rows by what ran their turn.", labels=(*_MODEL, "engine"))
        for runner in self._host.versions:
            model = [runner.manifest.name, str(runner.manifest.version)]
            stats = stats_of(runner)
            ran.add_metric([*model, "native"], stats.native_rows)
            ran.add_metric([*model, "python"], stats.python_rows)
            for verdict in list(Verdict)[1:]:
                rows.add_metric([*model, verdict.name.lower()], stats.verdicts[verdict])
            failed.add_metric(model, stats.failed_turns)
            decode.add_metric(model, stats.decode_cpu_s)
            engine.add_metric(model, stats.engine_cpu_s)
            sessions.add_metric(model, len(runner.table))
            waiting.add_metric(model, len(runner.batcher.queue))
            unacked.add_metric(model, runner.table.log_bytes)
            for family, histogram in ((queue, stats.queue_s), (compute, stats.compute_s), (batch, stats.batch)):
                family.add_metric(model, _buckets(histogram), sum_value=histogram.total)
        streams = GaugeMetricFamily("statestream_streams", "Streams open.", value=self._streams())
        transport = GaugeMetricFamily("statestream_transport", "Transport in use: 1.", labels=("transport",))
        transport.add_metric([self._transport], 1)
        refused = GaugeMetricFamily(
            "statestream_refused_bundles",
            "Bundles of the repository that were refused.",
            value=len(self._host.versions.refused),
        )
        return [
            *(
                rows,
                failed,
                decode,
                engine,
                sessions,
                waiting,
                unacked,
                queue,
                compute,
                batch,
                ran,
                streams,
                transport,
                refused,
            ),
            *_durability(self._host.persistence, self._host.eviction.spilled),
            *_shadows(self._host.versions),
            *_recording(self._recorder),
            self._oip(),
            self._refused(),
        ]

    def _oip(self) -> Metric:
        requests = CounterMetricFamily(
            "statestream_oip_requests", "Requests of Triton's clients, by outcome.", labels=(*_MODEL, "outcome")
        )
        for runner in self._host.versions:
            model = [runner.manifest.name, str(runner.manifest.version)]
            for outcome, count in self._oip_requests(runner).items():
                requests.add_metric([*model, outcome], count)
        return requests

    def _refused(self) -> Metric:
        refused = CounterMetricFamily(
            "statestream_refused_calls", "Calls refused for authentication, role or quota, by status.", labels=("code",)
        )
        for code, calls in self._refused_calls().items():
            refused.add_metric([code.lower()], calls)
        return refused


def _durability(persistence: Persistence | None, spilled: int) -> list[Metric]:
    """Metrics of the store, and of sessions evicted; none without a store."""
    if persistence is None:
        return []
    counts, health = persistence.counts, persistence.store.health
    return [
        GaugeMetricFamily("statestream_store_up", "Whether the snapshot store works.", value=float(health.up)),
        GaugeMetricFamily("statestream_durability_lag_seconds", "How long the store has failed.", value=health.lag_s),
        GaugeMetricFamily("statestream_stored_sessions", "Sessions in the store, about.", value=counts.stored_sessions),
        CounterMetricFamily("statestream_snapshots", "Snapshots stored.", value=counts.snapshots),
        CounterMetricFamily("statestream_snapshot_bytes", "Bytes of the snapshots stored.", value=counts.bytes),
        CounterMetricFamily("statestream_store_failures", "Times that the store failed.", value=health.failures),
        CounterMetricFamily("statestream_store_damages", "Times that the store was damaged.", value=counts.damages),
        CounterMetricFamily("statestream_lost_sessions", "Sessions lost with a damaged store.", value=counts.lost),
        CounterMetricFamily("statestream_spilled_sessions", "Sessions evicted from memory.", value=spilled),
        CounterMetricFamily(
            "statestream_expired_sessions", "Sessions that expired in the store.", value=counts.expired
        ),
    ]


def _shadows(versions: ModelRegistry) -> list[Metric]:
    """Divergence of shadows, labelled with the versions they follow."""
    labels = (*_MODEL, "shadow", "output")
    failed = CounterMetricFamily("statestream_failed_shadows", "Shadows dropped because they failed.", labels=_MODEL)
    rows = GaugeMetricFamily("statestream_shadow_rows", "Rows compared.", labels=labels)
    worst = GaugeMetricFamily("statestream_shadow_max_divergence", "Largest difference, in std.", labels=labels)
    mean = GaugeMetricFamily("statestream_shadow_mean_divergence", "Mean difference, in std.", labels=labels)
    unusable = GaugeMetricFamily("statestream_shadow_unusable_rows", "Rows without finite output.", labels=labels)
    for runner in versions:
        model = [runner.manifest.name, str(runner.manifest.version)]
        failed.add_metric(model, stats_of(runner).failed_shadows)
        if (shadow := shadow_of(runner)) is not None:
            for output, divergence in shadow.divergence.items():
                where = [*model, str(shadow.manifest.version), output]
                rows.add_metric(where, divergence.rows)
                worst.add_metric(where, divergence.max)
                mean.add_metric(where, divergence.mean)
                unusable.add_metric(where, divergence.unusable)
    return [failed, rows, worst, mean, unusable]


def _recording(recorder: Recorder | None) -> list[Metric]:
    """Metrics of the recorder; none without one."""
    if recorder is None:
        return []
    return [
        CounterMetricFamily("statestream_recorded_rows", "Rows recorded.", value=recorder.recorded_rows),
        CounterMetricFamily(
            "statestream_unrecorded_rows", "Rows lost because the disk was slow or failed.", value=recorder.lost_rows
        ),
    ]


def _buckets(histogram: Histogram) -> list[tuple[str, float]]:
    bounds = [str(bound) for bound in histogram.bounds] + ["+Inf"]
    return list(zip(bounds, accumulate(histogram.counts), strict=True))


def serve_metrics(collector: ServerCollector, address: str) -> WSGIServer:
    """Start the endpoint at `address` (`host:port`); `shutdown()` of the result stops it.

    Raises:
        InvalidArgument: the address cannot be listened on.
    """
    registry = CollectorRegistry()
    registry.register(collector)
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)
    host, port = split_address(address)
    try:
        server, _ = start_http_server(port, addr=host or "0.0.0.0", registry=registry)
    except OSError as error:
        raise InvalidArgument(f"cannot listen on {address}: {error.strerror}", field="metrics_address") from error
    return server
