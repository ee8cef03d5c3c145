"""Runs the operator."""

import asyncio

from orchestrator_operator.startup import main

if __name__ == "__main__":
    asyncio.run(main())
