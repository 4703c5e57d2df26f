"""Types the config of the server that answers by a switcher."""

from dataclasses import dataclass
from typing import Optional

from conf.errors import EdgewiseError
from conf.names import checked_seed
from conf.sections.values import Seed, Text, at_least, one_of
from conf.text import optional_text

LOOPBACK = ("127.0.0.1", "::1", "localhost")


@dataclass
class Serve:
    """Sets how a switcher is served: `python -m infer.serve switcher.ref=REF`.

    It listens on `host` and `port` (0: any free one). Another host than this machine's own needs `token_file`, a file
    with the token that every request must bring.

    A request is answered within `deadline_ms`, which it may shorten. One that can't be, because others wait, is refused
    (`on_overload: refuse`) or answered by the smallest model alone and marked so (`small`). Limits: `most_waiting`
    inputs in the queue, `most_inputs` and `most_bytes` a request, `most_connections`; the headers of a request and its
    body have `receive_ms` each to arrive. An input that has waited `patience_ms` goes before full batches.

    A share `shadow` of the answers that the smallest model keeps is compared with the largest model's. After an alarm
    of the watch the server goes on (`on_alarm: continue`) or asks the largest model alone (`larger`). `seed` draws.

    A signal to stop leaves `drain_ms` to answer what waits. Counts go to the tracked run every `log_seconds`.
    """

    host: Text = "127.0.0.1"
    port: int = 8000
    token_file: Optional[Text] = None
    deadline_ms: int = 10_000
    on_overload: str = "refuse"
    most_waiting: int = 10_000
    most_inputs: int = 1024
    most_bytes: int = 8 * 2**20
    most_connections: int = 1000
    receive_ms: int = 4000
    patience_ms: int = 500
    shadow: float = 0.02
    on_alarm: str = "continue"
    drain_ms: int = 30_000
    log_seconds: int = 60
    seed: Seed = 0

    def check(self) -> None:
        """Raises EdgewiseError for the first value outside its range, with its key."""
        self.host = optional_text("serve.host", self.host) or "127.0.0.1"
        self.token_file = optional_text("serve.token_file", self.token_file)
        if not 0 <= self.port <= 65535:
            raise EdgewiseError(f"serve.port={self.port}: expected a port from 1 to 65535, or 0 for any free one")
        if self.host not in LOOPBACK and self.token_file is None:
            raise EdgewiseError(
                f"serve.host={self.host}: other machines may reach the server there, so expected "
                "serve.token_file=FILE, a file with the token that they must bring; without one, serve.host=127.0.0.1"
            )
        for key in ("deadline_ms", "most_waiting", "most_inputs", "most_connections", "receive_ms", "log_seconds"):
            at_least(f"serve.{key}", getattr(self, key), 1)
        at_least("serve.most_bytes", self.most_bytes, 1024)
        for key in ("patience_ms", "drain_ms"):
            at_least(f"serve.{key}", getattr(self, key), 0)
        one_of("serve.on_overload", self.on_overload, ("refuse", "small"))
        one_of("serve.on_alarm", self.on_alarm, ("continue", "larger"))
        if not 0 <= self.shadow <= 1:
            raise EdgewiseError(
                f"serve.shadow={self.shadow}: expected a share in [0, 1], such as 0.02; 0 compares none"
            )
        self.seed = checked_seed("serve.seed", self.seed)
