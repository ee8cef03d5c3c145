# The agent in every job's pod: the standard library and one small package, nothing else.
ARG BASE=python:3.11-slim-bookworm
FROM ${BASE}
COPY operator/orchestrator_agent /app/orchestrator_agent
RUN python3 -m compileall -q /app
ENV PYTHONPATH=/app PYTHONUNBUFFERED=1
USER 65532:65532
# -S: no site-packages, -s: no user packages; both only cost start-up time here.
ENTRYPOINT ["python3", "-s", "-S", "-m", "orchestrator_agent"]
