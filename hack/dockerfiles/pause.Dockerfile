# What holds a pod's namespaces on the local cluster; other clusters bring their own.
FROM scratch
COPY pause /pause
USER 65535:65535
ENTRYPOINT ["/pause"]
