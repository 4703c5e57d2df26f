"""Serves the torch switch by Ray Serve: python ray_app.py FOLDER PORT BATCH alone|switch."""

import os
import signal
import sys
from pathlib import Path
from typing import Any

os.environ.setdefault("RAY_raylet_start_wait_time_s", "300")  # read when ray is imported

import ray
from ray import serve
from starlette.requests import Request

WAIT = 0.005  # seconds that a batch waits for more requests
FOLDER, PORT, BATCH, ALONE = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4] == "alone"


@serve.deployment(max_ongoing_requests=1000, ray_actor_options={"num_cpus": 1})
class App:
    """Answers a text a request, in batches."""

    def __init__(self, programs: str) -> None:
        sys.path.insert(0, programs)
        import torch
        from torch_switch import Switch

        torch.set_num_threads(os.cpu_count() or 1)  # Ray sets it to the actor's number of CPUs
        self.switch = Switch(FOLDER, ALONE)

    @serve.batch(max_batch_size=BATCH, batch_wait_timeout_s=WAIT)
    async def answer(self, texts: list[str]) -> list[dict[str, Any]]:
        """Returns the answers of a batch."""
        return self.switch.answer(texts)

    async def __call__(self, request: Request) -> dict[str, Any]:
        """Returns the answer to a request's text."""
        return await self.answer((await request.json())["text"])


if __name__ == "__main__":
    ray.init(num_cpus=max(2, os.cpu_count() or 2), include_dashboard=False, log_to_driver=False)
    serve.start(http_options={"host": "127.0.0.1", "port": PORT})
    bound = App.bind(str(Path(__file__).parent))  # type: ignore[attr-defined]  # the decorator makes it a deployment
    serve.run(bound, name="switch", route_prefix="/predict")
    signal.sigwait({signal.SIGTERM, signal.SIGINT})
    serve.shutdown()
    ray.shutdown()
