"""HTTP to the two servers that API and operator both talk to: Kubernetes and the object store.

Mechanism only: what is read and written, and why, is each side's own business.
"""
