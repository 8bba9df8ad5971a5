"""`throughline serve` on the tests' database: `python -m tests.service.replica`.

That database never syncs, so the command line itself would refuse to serve on it.
"""

import uvloop

from service import cli
from service.ops import logs
from service.settings import Settings


def main() -> None:
    """Serve until a signal. All settings come from the environment."""
    settings = Settings()
    assert settings.database_url is not None
    url = settings.database_url.get_secret_value()
    logs.configure(settings.log_level)
    uvloop.run(cli._serve(settings, url, url, with_demo=False, allow_unsafe_database=True))


if __name__ == "__main__":
    main()
