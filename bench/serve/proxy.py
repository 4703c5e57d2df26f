"""Runs nginx in front of several servers: a request that one can't answer any more goes to the next."""

import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from bench.serve.sides import free_port, needed

# Predictions change nothing, so another server may be asked the same: hence non_idempotent, which POST needs.
CONFIG = """
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/nginx.log warn;
worker_processes 1;
events {{ worker_connections 4096; }}
http {{
  access_log off;
  client_body_temp_path {folder}/nginx-body;
  proxy_temp_path {folder}/nginx-proxy;
  fastcgi_temp_path {folder}/nginx-fastcgi;
  uwsgi_temp_path {folder}/nginx-uwsgi;
  scgi_temp_path {folder}/nginx-scgi;
  upstream switchers {{
    {servers}
    keepalive 64;
    keepalive_timeout 10s;
  }}
  server {{
    listen 127.0.0.1:{port};
    location / {{
      proxy_pass http://switchers;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_connect_timeout 2s;
      proxy_read_timeout 15s;
      proxy_next_upstream error timeout http_503 non_idempotent;
      proxy_next_upstream_tries 3;
    }}
  }}
}}
"""


class Proxy:
    """Runs nginx on a port of its own for as long as a block runs."""

    def __init__(self, ports: Sequence[int], folder: Path):
        """Takes the servers' ports, and a folder for its files."""
        self.port, self._folder = free_port(), folder
        servers = "\n    ".join(f"server 127.0.0.1:{port} max_fails=0;" for port in ports)
        self._config = folder / "nginx.conf"
        self._config.write_text(CONFIG.format(folder=folder, port=self.port, servers=servers))

    def __enter__(self) -> "Proxy":
        command = [needed("nginx"), "-c", str(self._config), "-p", str(self._folder)]
        self._process = subprocess.Popen(command)
        until = time.monotonic() + 20
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{self.port}/v2/health/ready", timeout=5).close()
                return self
            except urllib.error.HTTPError:
                return self
            except OSError:
                if time.monotonic() > until or self._process.poll() is not None:
                    self.__exit__(None, None, None)
                    raise SystemExit(f"nginx doesn't start: {(self._folder / 'nginx.log').read_text()}") from None
                time.sleep(0.1)

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._process.terminate()
        self._process.wait()
