"""Counts the programs that JAX compiles in this process, by its own events. Starts without JAX."""

import threading


class CompilationCounter:
    """Counts compilations, of any thread, from the first `listen` on."""

    EVENT = "/jax/core/compile/backend_compile_duration"

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._listens = False
        self.count = 0

    def listen(self) -> None:
        """Starts counting; JAX starts here."""
        import jax

        with self._lock:
            if not self._listens:
                jax.monitoring.register_event_duration_secs_listener(self._note)
                self._listens = True

    def _note(self, event: str, *_: object, **__: object) -> None:
        """Counts a compilation."""
        if event == self.EVENT:
            with self._lock:
                self.count += 1


COMPILATIONS = CompilationCounter()  # JAX keeps its listeners for good, so there is one a process
