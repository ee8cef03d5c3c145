# The operator: kopf and what it needs in a virtual environment, our packages beside it.
ARG BASE=python:3.11-slim-bookworm
FROM ${BASE} AS build
ARG PIP_CERT
COPY hack/locks/operator.txt /tmp/lock.txt
RUN python3 -m venv /app \
 && /app/bin/pip install --no-cache-dir --require-hashes -r /tmp/lock.txt \
 && /app/bin/pip uninstall --yes --quiet pip setuptools
COPY crds/orchestrator_crds /app/ours/orchestrator_crds
COPY crds/orchestrator_wire /app/ours/orchestrator_wire
COPY operator/orchestrator_operator /app/ours/orchestrator_operator
COPY operator/orchestrator_agent /app/ours/orchestrator_agent
RUN /app/bin/python -m compileall -q /app/ours

FROM ${BASE}
COPY --from=build /app /app
# kopf asks for the name of its user, and this one has none.
ENV USER=orchestrator PYTHONPATH=/app/ours PYTHONUNBUFFERED=1 SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt
USER 65532:65532
ENTRYPOINT ["/app/bin/python", "-m", "orchestrator_operator"]
