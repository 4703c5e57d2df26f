"""Serves the torch switch by LitServe: python lit.py FOLDER PORT BATCH alone|switch."""

import sys
from pathlib import Path
from typing import Any

import litserve
from torch_switch import Switch

WAIT = 0.005  # seconds that a batch waits for more requests


class Api(litserve.LitAPI):
    """Answers a text a request, in batches."""

    def setup(self, device: str) -> None:
        """Reads the models."""
        self.switch = Switch(Path(sys.argv[1]), sys.argv[4] == "alone")

    def decode_request(self, request: dict[str, Any]) -> str:
        """Returns a request's text."""
        return request["text"]

    def batch(self, inputs: list[str]) -> list[str]:
        """Returns the batch as it is."""
        return inputs

    def predict(self, texts: list[str]) -> list[dict[str, Any]]:
        """Returns the answers of a batch."""
        return self.switch.answer(texts)

    def unbatch(self, output: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Returns the answers one by one."""
        return output

    def encode_response(self, output: dict[str, Any]) -> dict[str, Any]:
        """Returns an answer as it is."""
        return output


if __name__ == "__main__":
    api = Api(max_batch_size=int(sys.argv[3]), batch_timeout=WAIT)
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=1, timeout=60)
    server.run(host="127.0.0.1", port=int(sys.argv[2]), generate_client_file=False, log_level="warning")
