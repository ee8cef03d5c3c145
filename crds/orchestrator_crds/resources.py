"""What a job takes up: CPU, memory, disk and devices, as Kubernetes quantities."""

from collections.abc import Mapping
from typing import Annotated

from pydantic import Field

from orchestrator_crds.meta import Model

Quantity = Annotated[
    str,
    Field(
        max_length=32,
        pattern=r"^[0-9]+(\.[0-9]+)?(m|k|M|G|T|P|Ki|Mi|Gi|Ti|Pi)?$",
        description="A Kubernetes quantity, such as 500m, 2 or 4Gi.",
    ),
]
# By the names that Kubernetes gives resources: cpu, memory, ephemeral-storage, nvidia.com/gpu.
Amounts = dict[str, Quantity]
MOST_RESOURCES = 16
# A domain, a slash, a name, as Kubernetes has it.
LONGEST_RESOURCE = 317
# What every job has some of; all else are devices.
NEEDED = ("cpu", "memory", "ephemeral-storage")


class ComputeResources(Model):
    """What one job gets: requested and limited alike, so that a job cannot disturb another."""

    cpu: Quantity = Field(default="1", description="CPU, in cores.")
    memory: Quantity = Field(default="1Gi", description="Memory, in bytes.")
    ephemeral_storage: Quantity = Field(
        default="4Gi", description="Disk for the working directory and its results, in bytes."
    )
    extended: Amounts = Field(
        default={},
        max_length=MOST_RESOURCES,
        description="Devices by the names that their plugins gave them, such as nvidia.com/gpu.",
    )

    def amounts(self) -> Amounts:
        """Return them by the names that Kubernetes gives them; what is 0 is left out."""
        named = {
            "cpu": self.cpu,
            "memory": self.memory,
            "ephemeral-storage": self.ephemeral_storage,
            **dict(sorted(self.extended.items())),
        }
        # Also 0.0 and 0Gi: nobody is to be weighed by names of which nothing is taken.
        return {
            name: amount for name, amount in named.items() if any(c in "123456789" for c in amount)
        }


class WantedResources(Model):
    """Amounts that differ from the service's own; what is not named stays as it is there."""

    cpu: Quantity | None = Field(default=None, description="CPU, in cores.")
    memory: Quantity | None = Field(default=None, description="Memory, in bytes.")
    ephemeral_storage: Quantity | None = Field(
        default=None, description="Disk for the working directory and its results, in bytes."
    )
    extended: Amounts = Field(
        default={},
        max_length=MOST_RESOURCES,
        description="Devices by the names that their plugins gave them, such as nvidia.com/gpu; "
        "only such as the service lists.",
        json_schema_extra={
            "x-kubernetes-validations": [
                {
                    "rule": f"self.all(name, size(name) <= {LONGEST_RESOURCE})",
                    "message": f"the name of a device has at most {LONGEST_RESOURCE} characters",
                }
            ]
        },
    )


def demand(default: ComputeResources, wanted: WantedResources | None) -> ComputeResources:
    """Return what a job gets that wants *wanted* of a service that gives *default*."""
    if wanted is None:
        return default
    named = wanted.model_dump(exclude_none=True, exclude={"extended"})
    return default.model_copy(update={**named, "extended": {**default.extended, **wanted.extended}})


def unlisted(
    default: ComputeResources, most: WantedResources | None, wanted: WantedResources | None
) -> str | None:
    """Return the name of a device that a job wants and its service does not give, or None.

    Whatever the amount: names that nobody but the job knows would be weighed in every decision.
    """
    if wanted is None or not wanted.extended:
        return None
    listed = demand(default, most).extended
    return next((name for name in wanted.extended if name not in listed), None)


def beyond(wanted: Mapping[str, int], allowed: Mapping[str, int]) -> str | None:
    """Return the name of the first resource of which *wanted* is more than *allowed*, or None."""
    return next((name for name in sorted(wanted) if wanted[name] > allowed.get(name, 0)), None)
