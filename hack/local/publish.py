"""Images to a registry, for a cluster that is not this machine's."""

import shutil
from pathlib import Path

import yaml

from local.images import IMAGES, buildah
from local.paths import CACHE
from local.steps import Note, StepFailed

PUBLISHED = ("api", "operator", "agent", "minio", "example")


def bills(folder: str) -> None:
    """Copy the bill of materials of every image of the chart into a folder, as NAME.cdx.json."""
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    for name in PUBLISHED:
        shutil.copyfile(IMAGES[name].bill, target / f"{name}.cdx.json")


def push(registry: str, note: Note) -> None:
    """Push every image of the chart to REGISTRY and print values that name them by digest.

    The registry's credentials are those of `buildah login` or `docker login`.
    """
    if not registry:
        raise StepFailed("Name the registry: hack/images push registry.example.org/orchestrator")
    if shutil.which("buildah") is None:
        raise StepFailed("buildah is missing; `hack/images` installs it.")
    values: dict[str, dict[str, str]] = {}
    for name in PUBLISHED:
        image = IMAGES[name]
        repository = f"{registry}/{name}"
        digest = Path(CACHE, "logs", f"{name}.digest")
        note.show(repository)
        note.run(
            buildah(
                "push",
                f"--digestfile={digest}",
                image.reference,
                f"docker://{repository}:{image.tag}",
            ),
            hint="Log in with `buildah login`, and see that the registry can be reached.",
        )
        values[name] = {"repository": repository, "digest": digest.read_text().strip()}
    example = values.pop("example")
    print(yaml.safe_dump({"images": values}, sort_keys=False), end="")
    print(f"# The image of the example services: {example['repository']}@{example['digest']}")
