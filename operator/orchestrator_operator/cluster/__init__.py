"""All Kubernetes requests of the operator, by what they are for."""
