"""Counts and times of requests, for Prometheus. A route is named as it is written, so there are few names."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


class Measures:
    """What one application has measured."""

    kind = CONTENT_TYPE_LATEST

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        labels = ["route", "method"]
        self._requests = Counter(
            "memos_requests", "Requests by how they ended.", [*labels, "status"], registry=self._registry
        )
        self._seconds = Histogram(
            "memos_request_seconds", "Until a request was answered.", labels, buckets=BUCKETS, registry=self._registry
        )
        self._tokens = Counter("memos_answer_tokens", "Tokens that the model wrote.", registry=self._registry)
        self._forms = Counter(
            "memos_answer_forms", "Answers by the form of the memory.", ["form"], registry=self._registry
        )
        self.working = Gauge("memos_requests_working", "Requests that are being answered.", registry=self._registry)

    def note(self, route: str, method: str, status: int, seconds: float) -> None:
        """One request."""
        self._requests.labels(route, method, str(status)).inc()
        self._seconds.labels(route, method).observe(seconds)

    def note_answer(self, form: str, tokens: int) -> None:
        """One answer."""
        self._forms.labels(form).inc()
        self._tokens.inc(tokens)

    def told(self) -> bytes:
        """All of it as Prometheus reads it."""
        return generate_latest(self._registry)
