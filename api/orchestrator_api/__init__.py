"""The REST API that portals talk to, and the gateway that the jobs' pods talk to."""
