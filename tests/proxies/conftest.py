from hashlib import md5, sha256
from pathlib import Path
from typing import Any

import pytest

from orchestrator_api.app import create_app
from orchestrator_api.identity.door import Door, IdentitySettings
from orchestrator_api.identity.rates import Most
from tests.proxies.servers import OWN
from tests.support.builders import CREATED, job_body
from tests.support.system import System
from tests.unit.api.conftest import pytest_asyncio_loop_factories, system
from tests.unit.api.test_identity import a_file
from tests.unit.conftest import cluster, store

__all__ = ["cluster", "pytest_asyncio_loop_factories", "store", "system"]


@pytest.fixture
def door(tmp_path: Path) -> Door:
    limits = Most(requests_per_second=0)
    return Door(IdentitySettings(api_keys_file=str(a_file(tmp_path)), limits=limits))


@pytest.fixture
def app(system: System) -> Any:
    """Return the API; users 1 and 2 have a job each, which has ended."""
    for number, (_, data) in enumerate(OWN.values(), 1):
        key = f"jobs/{number:032x}/results-1.zip"
        system.s3.objects[key] = data
        results = {
            "key": key,
            "sizeBytes": len(data),
            "sha256": sha256(data).hexdigest(),
            "etag": md5(data).hexdigest(),  # noqa: S324  (what S3 uses)
            "updatedAt": CREATED,
        }
        job = job_body(f"job-{number}", user=str(number), phase="Completed", results=results)
        system.kube.put("orchestratorjobs", job)
    return create_app(system.context)
