"""The command of the demo's worker: prints the steps of a real build, in three seconds."""

import json
import sys
import time

STEPS = (
    ("setup", "Preparing a workspace"),
    ("development", "Writing the code"),
    ("development", "Writing the tests"),
    ("dependencies", "Installing dependencies"),
    ("build", "Building"),
    ("deploy", "Deploying"),
)


def main() -> None:
    """Print the steps, then the version."""
    build = json.load(sys.stdin)
    for phase, title in STEPS:
        print(json.dumps({"phase": phase, "title": title}), flush=True)
        time.sleep(0.5)
    version = build["buildId"][-12:]
    preview = f"https://preview.example/{version}"
    done = {"phase": "metadata", "title": "Done", "versionId": version, "previewUrl": preview}
    print(json.dumps(done | {"seconds": 3, "tokens": 2_000}), flush=True)


if __name__ == "__main__":
    main()
