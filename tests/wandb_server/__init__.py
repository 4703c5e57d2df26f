"""A loopback Weights & Biases server for tests: enough of the protocol to run the real SDK online, and strict about it.

    with WandbServer() as server:
        os.environ |= server.environment
        ...
        assert server.project("p").runs["r"].state == "finished"

An operation, a field, a variable, a file of the stream or an upload that the protocol here does not know is answered
with an error and kept in `problems`. `server.fail(…)` makes it slow, answer 500 or 429, or die.
"""

from tests.wandb_server.http import WandbServer
from tests.wandb_server.state import ENTITY

__all__ = ["ENTITY", "WandbServer"]
