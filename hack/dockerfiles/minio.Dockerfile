# The object store for evaluation: MinIO's unmodified server (AGPL), built by hack/ from its module.
FROM scratch
COPY minio /minio
USER 65532:65532
ENTRYPOINT ["/minio"]
