"""The project's own one-machine Kubernetes, its images, and the steps that bring them up."""
