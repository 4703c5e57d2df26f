"""Starts, renews and ends the server: loading, signals, draining."""

import asyncio
import concurrent.futures
import contextlib
import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import uvicorn

from conf.errors import EdgewiseError, first_line
from conf.machine import quick_turns
from conf.schema import Config
from infer.serve.app import make_app
from infer.serve.connections import limited_protocol
from infer.serve.deployment import Deployment, load_deployment
from infer.serve.device import DeviceThread
from infer.serve.guard import read_token
from infer.serve.measures import Measures
from infer.serve.service import Service
from infer.serve.session import Session, alarms_of

LOG = logging.getLogger("edgewise.serve")
LOADING = "loading"  # the name of threads that load a switcher
KEEP_ALIVE = 15  # seconds that a connection may be idle
QUIET = 0.5  # seconds in which nothing waits, before a server that drains ends

Load = Callable[[Config], Deployment]


class QuietServer(uvicorn.Server):
    """Represents uvicorn's server without its signal handlers: `Life` has its own."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leaves signals alone."""
        yield


class Life:
    """Holds a server from its start to its end."""

    def __init__(self, config: Config, load: Load = load_deployment):
        """Takes the config; `load` is called beside the event loop. Raises EdgewiseError for a token file."""
        self._config, self._load = config, load
        self._token = read_token(config.serve.token_file)
        self.measures = Measures()
        self._session = Session(config)
        self._store = concurrent.futures.ThreadPoolExecutor(1, "session")  # where the session's run is written
        self._loading: asyncio.Task[None] | None = None

    async def run(self, listener: socket.socket, signals: bool = True) -> None:
        """Serves on a socket that is bound, until a signal, or `end`; `signals` only in the main thread."""
        settings = self._config.serve
        loop = asyncio.get_running_loop()
        device = DeviceThread(loop, self.measures)
        self.service = Service(settings, device)
        device.start()
        app = make_app(self.service, self.measures, self._token)
        self.server = QuietServer(
            uvicorn.Config(
                app,
                http=limited_protocol(settings),
                ws="none",
                lifespan="off",
                access_log=False,
                log_config=None,
                server_header=False,
                proxy_headers=False,  # no answer depends on who asks
                timeout_keep_alive=KEEP_ALIVE,
                timeout_graceful_shutdown=max(1, settings.receive_ms // 1000 + 1),
            )
        )
        if signals:
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(number, self.end, signal.Signals(number).name)
            loop.add_signal_handler(signal.SIGHUP, self.renew)
        host, port = listener.getsockname()[:2]
        LOG.info("listening at http://%s:%s", f"[{host}]" if ":" in host else host, port)
        LOG.info("loading the models and compiling every shape; until then requests are answered 503")
        self._loading = loop.create_task(self._renewed())
        logging_counts = loop.create_task(self._log_counts())
        await self.server.serve(sockets=[listener])
        logging_counts.cancel()
        device.stop(5.0)
        if (used := self.service.deployment) is not None and used.watching is not None:
            used.watching.watch.save()
        await loop.run_in_executor(self._store, self._session.finish, *self._counts())
        self._store.shutdown(wait=False)

    @property
    def loading(self) -> bool:
        """Tells whether a switcher is being loaded."""
        return any(thread.name == LOADING for thread in threading.enumerate())

    def renew(self) -> None:
        """Loads what the reference names now, where nothing is being loaded."""
        if self._loading is None or self._loading.done():
            self._loading = asyncio.get_running_loop().create_task(self._renewed())
        else:
            LOG.info("a switcher is being loaded already")

    async def _renewed(self) -> None:
        """Loads a switcher beside the event loop, and answers by it; a bad one leaves the old."""
        old = self.service.deployment
        started = time.monotonic()
        try:
            new = await in_thread(self._load, self._config)
        except Exception as error:
            self.measures.failed_loads.inc()
            why = (
                first_line(error)
                if isinstance(error, EdgewiseError)
                else f"{type(error).__name__}: {first_line(error)}"
            )
            if old is None:
                self.service.refuse(why)
                LOG.error("not ready: %s", why)
            else:
                LOG.error("%s still answers: the new switcher can't be used: %s", old.ref, why)
            return
        if old is not None and old.digest == new.digest and self.service.device.broken is None:
            LOG.info("%s is what answers already", new.ref)
            return
        self.service.use(new)
        self.measures.using(new)
        LOG.info(
            "ready: %s (%s) after %.1f s, on %s",
            new.ref,
            new.policy.chain,
            time.monotonic() - started,
            new.engine.device,
        )
        self._store.submit(self._session.use, new)  # not waited for: the switcher answers, and may be renewed again

    async def _log_counts(self) -> None:
        """Logs the counts to the tracked run, again and again."""
        while True:
            await asyncio.sleep(self._config.serve.log_seconds)
            await asyncio.get_running_loop().run_in_executor(self._store, self._session.log, *self._counts())

    def _counts(self) -> tuple[dict[str, Any], list[str]]:
        """Returns what the session's run keeps: counts, and the names of alarms."""
        return self.service.history.counts(), alarms_of(self.service.deployment)

    def end(self, why: str) -> None:
        """Answers what waits, takes in nothing more, and ends; called again, ends at once."""
        if self.service.draining:
            self.server.should_exit = self.server.force_exit = True
            return
        LOG.info("ending on %s: what waits is answered first", why)
        self.service.draining = True
        self._draining = asyncio.get_running_loop().create_task(self._drain())

    async def _drain(self) -> None:
        """Waits, at most `drain_ms`, until nobody has waited for QUIET seconds.

        What comes in meanwhile is refused and its connection closed, so that no client's next request meets a
        connection that ends without an answer.
        """
        now = quiet_since = time.monotonic()
        until = now + self._config.serve.drain_ms / 1000
        while now < until and now - quiet_since < QUIET:
            await asyncio.sleep(0.02)
            now = time.monotonic()
            if not self.service.idle:
                quiet_since = now
        self.server.should_exit = True


async def in_thread(function: Callable[[Config], Deployment], config: Config) -> Deployment:
    """Returns what a function returns in a thread of its own, which the end of the process doesn't wait for."""
    result: concurrent.futures.Future[Deployment] = concurrent.futures.Future()

    def work() -> None:
        try:
            result.set_result(function(config))
        except BaseException as error:
            result.set_exception(error)

    threading.Thread(target=work, name=LOADING, daemon=True).start()
    return await asyncio.wrap_future(result)


def bound_socket(host: str, port: int) -> socket.socket:
    """Returns a socket that listens; raises EdgewiseError where that can't be."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen()  # else a second server on the port is refused where it can't say so any more
        except BaseException:
            listener.close()
            raise
    except UnicodeError as error:  # by the rules of names with letters outside ASCII
        raise EdgewiseError(
            f"serve.host={host}: not a host's name ({first_line(error)}); give a name or an address of this machine"
        ) from None
    except OSError as error:
        reason = error.strerror or first_line(error)
        raise EdgewiseError(
            f"serve.host={host} serve.port={port}: {reason}; give another port (serve.port=0: any free one)"
        ) from None
    return listener


def serve(config: Config, load: Load = load_deployment) -> None:
    """Serves the switcher that `switcher.ref` names until a signal ends it.

    Raises EdgewiseError where it can't listen, or has no switcher to look for.
    """
    if config.switcher.ref is None:
        raise EdgewiseError(
            "switcher.ref is not set: give switcher.ref=REF, such as switcher-demo-nano-micro:latest (python -m "
            "tracking ls lists them), or the folder of a bundle"
        )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    LOG.addHandler(handler)
    LOG.setLevel(logging.INFO)
    LOG.propagate = False
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    life = Life(config, load)
    listener = bound_socket(config.serve.host, config.serve.port)
    loops = uvicorn.Config("", log_config=None).get_loop_factory()
    # the device's thread would wait for the event loop's after each batch
    with quick_turns(), asyncio.Runner(loop_factory=loops) as runner:
        runner.run(life.run(listener))
    if life.loading:  # a thread that compiles can't be interrupted, and the interpreter's end may crash in it
        logging.shutdown()
        os._exit(0)
