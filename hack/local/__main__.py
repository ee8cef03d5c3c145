"""Command line of the scripts in hack/: each calls one command of this module."""

import sys
from collections.abc import Callable, Sequence

from local import (
    checks,
    cluster,
    demo,
    helm,
    images,
    kind,
    migrate,
    packages,
    places,
    publish,
    toolchain,
)
from local.paths import CACHE, FRONT, NAMESPACE, RELEASE
from local.steps import Step, StepFailed, console, run_steps, together

TOOLS = (
    Step("Debian packages", packages.install_packages, "packages"),
    Step("Go compiler", toolchain.install_go, "go"),
)
COMPILE = Step("Kubernetes, containerd, Helm, MinIO from source", toolchain.build_programs, "build")
PROGRAMS = (*TOOLS, COMPILE)
BUILD = (
    *TOOLS,
    Step(
        "programs from source, and images",
        together(COMPILE, Step("images", images.build_early, "images")),
        "build-all",
    ),
    Step("the rest of the images", images.build_images, "images-rest"),
)
START = (
    Step("cluster", cluster.start, "cluster"),
    Step("images onto the node", cluster.load_images, "load"),
)
ON_KIND = (
    Step("images", kind.build_images, "images"),
    Step("kind cluster", kind.start, "cluster"),
    Step("images onto the node", kind.load_images, "load"),
)
INSTALL = (
    Step("helm install", helm.install, "helm"),
    Step("example services, quota and pool", helm.apply_examples, "examples"),
)
SIMULATION = Step("KWOK from source", toolchain.build_kwok, "kwok")
REVIEWER = Step("kube-score from source", toolchain.build_score, "score")
GVISOR = Step("gVisor from source", toolchain.build_gvisor, "gvisor")
GATEWAY = Step("Gateway API", toolchain.fetch_gateway_kinds, "gateway")
BROWSER = Step("a browser", packages.install_browser, "browser")
PROXIES = Step("proxies", packages.unpack_proxies, "proxies")
FRONT_DOOR = Step("front door", helm.wait_for_front, "front")


def steps_up() -> list[Step]:
    """Return everything between nothing and a system that answers, for the chosen place."""
    if places.chosen() is places.Place.EXISTING:
        return [*PROGRAMS, *INSTALL]
    if places.chosen() is places.Place.KIND:
        forward = Step("forward to the API", kind.open_front, "forward")
        return [*PROGRAMS, *ON_KIND, *INSTALL, forward, FRONT_DOOR]
    return [*BUILD, *START, *INSTALL, FRONT_DOOR]


def up() -> int:
    """Do all that is missing, from packages to a front door that answers."""
    run_steps(steps_up())
    if places.chosen() is places.Place.EXISTING:
        forward = f"port-forward -n {NAMESPACE} service/{RELEASE}-api 5000"
        console.print(f"The system is installed; `hack/kubectl {forward}` opens {FRONT}.")
    else:
        console.print(f"The system is up at {FRONT}; hack/down takes it away.")
    return 0


def show() -> int:
    """Bring the system up and run the main job on it."""
    run_steps(steps_up())
    return demo.run()


def publish_images(words: list[str]) -> int:
    """Build the images; with `push REGISTRY`, push them and print values for the chart.

    With `sbom FOLDER`, put the images' bills of materials there.
    """
    steps = list(BUILD)
    if words:
        if words[0] not in {"push", "sbom"} or len(words) != 2:
            console.print("Usage: hack/images [push REGISTRY | sbom FOLDER]")
            return 2
        if words[0] == "sbom":
            steps.append(Step("bills of materials", lambda _: publish.bills(words[1]), "sbom"))
            return run(steps)
        steps.append(Step("push", lambda note: publish.push(words[1].rstrip("/"), note), "push"))
    return run(steps)


def check() -> int:
    """Run what needs no cluster: lint, types, layers, generated files, unit tests."""
    checks.lint()
    return checks.close(checks.tests("unit", *checks.IN_PARALLEL))


def test() -> int:
    """Run every check there is, on a cluster that it brings up and takes away."""
    checks.lint()
    count = checks.tests("unit", *checks.IN_PARALLEL)
    count += checks.tests("fuzz")
    run_steps([PROXIES])
    count += checks.tests("proxies")
    run_steps([*steps_up(), SIMULATION, REVIEWER, GVISOR, GATEWAY, BROWSER])
    count += checks.tests("browser")
    count += checks.tests("contract")
    count += checks.tests("cluster")
    count += checks.tests("attack")
    # Takes the cluster down, so it comes last.
    count += checks.tests("lifecycle")
    return checks.close(count)


def down() -> int:
    """Take the cluster away; the cache of built things stays."""
    if places.chosen() is places.Place.EXISTING:
        console.print("That cluster is not ours to take down; `hack/helm uninstall` the release.")
        return 2
    (kind.stop if places.chosen() is places.Place.KIND else cluster.stop)()
    console.print(f"Down. Built programs and images stay in {CACHE}.")
    return 0


def run(steps: Sequence[Step]) -> int:
    """Run *steps*; returns the exit code of success, since failure exits by itself."""
    run_steps(steps)
    return 0


def main() -> int:
    """Run one command; returns its exit code."""
    name, *words = sys.argv[1:] or ["help"]
    commands: dict[str, Callable[[], int]] = {
        "up": up,
        "check": check,
        "demo": show,
        "test": test,
        "down": down,
        "build": lambda: run(BUILD),
        "start": lambda: run([*BUILD, *START]),
        "images": lambda: publish_images(words),
        "migrate": lambda: migrate.main(words),
        "soak": lambda: run([*TOOLS, SIMULATION]) or checks.module("tests.soak", words),
        "kubectl": lambda: helm.command("kubectl", words),
        "helm": lambda: helm.command("helm", words),
    }
    if name not in commands:
        console.print(f"Unknown command {name}; there are: {', '.join(sorted(commands))}.")
        return 2
    try:
        return commands[name]()
    except (StepFailed, checks.CheckFailed) as error:
        console.print(str(error), markup=False)
        return 1


if __name__ == "__main__":
    sys.exit(main())
