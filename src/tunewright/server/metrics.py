"""Figures for Prometheus: names as vLLM and OpenTelemetry's GenAI conventions have them, and our own.

Labels hold model references, arms, states and codes; never text, keys, users or trace ids.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from tunewright.records import FeedbackKind, Trace
from tunewright.server.seams import Counts, Finish, GatewayRuntime

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
_TOKENS = tuple(float(4**power) for power in range(10))
_FINISHED = {"ok": "stop", "error": "error", "cancelled": "abort", "interrupted": "error"}
"""vLLM's finished_reason where the engine gave none."""


class Meters:
    """All figures of one gateway, in a registry of their own."""

    def __init__(self, runtime: GatewayRuntime) -> None:
        self._registry = registry = CollectorRegistry()
        registry.register(_RuntimeFigures(runtime))
        model = ["model_name"]
        self._running = Gauge("vllm:num_requests_running", "Requests being answered.", registry=registry)
        self._success = Counter(
            "vllm:request_success", "Requests by end.", [*model, "finished_reason"], registry=registry
        )
        self._latency = Histogram(
            "vllm:e2e_request_latency_seconds", "Whole answers.", model, buckets=_SECONDS, registry=registry
        )
        self._ttft = Histogram(
            "vllm:time_to_first_token_seconds",
            "To the first event of a stream.",
            model,
            buckets=_SECONDS,
            registry=registry,
        )
        self._prompt = Counter("vllm:prompt_tokens", "Prompt tokens.", model, registry=registry)
        self._generated = Counter("vllm:generation_tokens", "Generated tokens.", model, registry=registry)
        self._genai = _GenAi(registry)
        self._per_model: dict[str, _ModelMeters] = {}
        self._requests = Counter(
            "tunewright_requests", "Requests by arm and end.", [*model, "arm", "status"], registry=registry
        )
        self._refused = Counter(
            "tunewright_refused_requests", "Error replies by status.", ["http_status"], registry=registry
        )
        self._feedback = Counter("tunewright_feedback", "Feedback by kind.", ["kind"], registry=registry)

    def begin(self) -> None:
        """Count a request that was admitted."""
        self._running.inc()

    def end(self, trace: Trace, finish: Finish) -> None:
        """Count how it went."""
        model = _model_name(trace)
        self._running.dec()
        self._requests.labels(model, trace.arm or "none", finish.status).inc()
        reason = finish.finish_reason if finish.status == "ok" else None
        self._success.labels(model, reason or _FINISHED[finish.status]).inc()
        meters = self._of(model)
        meters.latency.observe(finish.latency_s)
        meters.prompt.inc(finish.num_prompt_tokens)
        meters.generated.inc(finish.num_tokens)
        if finish.ttft_s is not None:
            meters.ttft.observe(finish.ttft_s)
            meters.genai_ttft.observe(finish.ttft_s)
        self._genai.duration.labels(model, "" if finish.status == "ok" else finish.status).observe(
            finish.latency_s
        )
        if finish.status == "ok":
            meters.genai_input.observe(finish.num_prompt_tokens)
            meters.genai_output.observe(finish.num_tokens)

    def _of(self, model: str) -> "_ModelMeters":
        """Find what is counted by model alone; looking labels up anew costs more than counting."""
        found = self._per_model.get(model)
        if found is None:
            found = _ModelMeters(
                latency=self._latency.labels(model),
                ttft=self._ttft.labels(model),
                prompt=self._prompt.labels(model),
                generated=self._generated.labels(model),
                genai_ttft=self._genai.ttft.labels(model),
                genai_input=self._genai.usage.labels(model, "input"),
                genai_output=self._genai.usage.labels(model, "output"),
            )
            self._per_model[model] = found
        return found

    def refuse(self, status: int) -> None:
        """Count an error reply."""
        self._refused.labels(str(status)).inc()

    def hear(self, kind: FeedbackKind) -> None:
        """Count feedback."""
        self._feedback.labels(kind).inc()

    def render(self) -> bytes:
        """Write everything in Prometheus' text format."""
        return generate_latest(self._registry)


class _GenAi:
    """The same in OpenTelemetry's names."""

    def __init__(self, registry: CollectorRegistry) -> None:
        labels = ["gen_ai_response_model"]
        self.duration = Histogram(
            "gen_ai_server_request_duration_seconds",
            "Whole answers.",
            [*labels, "error_type"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.ttft = Histogram(
            "gen_ai_server_time_to_first_token_seconds",
            "To the first event of a stream.",
            labels,
            buckets=_SECONDS,
            registry=registry,
        )
        self.usage = Histogram(
            "gen_ai_client_token_usage",
            "Tokens of a request.",
            [*labels, "gen_ai_token_type"],
            buckets=_TOKENS,
            registry=registry,
        )


@dataclass(frozen=True, slots=True)
class _ModelMeters:
    """One model's figures."""

    latency: Histogram
    ttft: Histogram
    prompt: Counter
    generated: Counter
    genai_ttft: Histogram
    genai_input: Histogram
    genai_output: Histogram


class _RuntimeFigures(Collector):
    """Asks the runtime whenever somebody looks."""

    def __init__(self, runtime: GatewayRuntime) -> None:
        self._runtime = runtime

    def describe(self) -> Iterator[Metric]:
        return iter(())  # nobody need ask the runtime for the names alone

    def collect(self) -> Iterator[Metric]:
        counts = self._runtime.counts()
        yield CounterMetricFamily(
            "tunewright_traces_lost", "Traces that could not be stored.", value=counts.traces_lost
        )
        yield CounterMetricFamily(
            "tunewright_engine_restarts", "Restarts of the engine.", value=counts.engine_restarts
        )
        for name, text, value in (
            ("tunewright_traces_waiting", "Trace entries not stored yet.", counts.traces_waiting),
            ("tunewright_adapters_resident", "Adapters that the engine holds.", counts.adapters_resident),
            ("tunewright_shadow_running", "Mirrored requests being answered.", counts.shadow_running),
        ):
            yield GaugeMetricFamily(name, text, value=value)
        yield from _rollout_figures(counts)


def _rollout_figures(counts: Counts) -> Iterator[Metric]:
    share = GaugeMetricFamily(
        "tunewright_rollout_share", "Share of units the candidate answers.", labels=["rollout"]
    )
    phase = GaugeMetricFamily(
        "tunewright_rollout_phase", "1 for the phase it is in.", labels=["rollout", "phase"]
    )
    for rollout, state in counts.rollouts:
        share.add_metric([str(rollout.ref)], state.share)
        phase.add_metric([str(rollout.ref), state.phase], 1)
    log_e = GaugeMetricFamily(
        "tunewright_rollout_log_e",
        "Natural log of the e-value.",
        labels=["rollout", "guardrail", "direction"],
    )
    for key, value in counts.log_e.items():
        log_e.add_metric(list(key), value)
    yield from (share, phase, log_e)


def _model_name(trace: Trace) -> str:
    """Name what answered, never what the caller typed."""
    return "base" if trace.model is None else str(trace.model)
