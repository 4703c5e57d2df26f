"""Answers inputs over HTTP by a switcher: `python -m infer.serve switcher.ref=REF serve.port=8000`.

SIGTERM ends it when what waits is answered, with status 0; SIGHUP loads the switcher that REF names then.
"""

from conf.app import command
from conf.errors import EdgewiseError
from conf.schema import Config


def main(config: Config) -> None:
    """Serves until a signal ends it."""
    try:
        from infer.serve.life import serve
    except ModuleNotFoundError as error:
        raise EdgewiseError(
            f"{error.name} is not installed, which the server needs: "
            "uv pip install --python .venv -r pyproject.toml --extra serve"
        ) from None
    serve(config)


if __name__ == "__main__":
    command(main)()
