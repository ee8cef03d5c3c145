# The image of the example services: bash and a `gdock` command for protein docking.
ARG BASE=python:3.11-slim-bookworm
FROM ${BASE} AS build
ARG PIP_CERT
COPY hack/examples/docking/image/requirements.txt /tmp/requirements.txt
RUN python3 -m venv /app \
 && /app/bin/pip install --no-cache-dir --require-hashes -r /tmp/requirements.txt \
 && /app/bin/pip uninstall --yes --quiet pip setuptools

FROM ${BASE}
COPY --from=build /app /app
COPY hack/examples/docking/image/gdock /usr/local/bin/gdock
USER 65532:65532
