"""The operator: watches jobs and pods, decides who runs next, and writes as little as it can."""
