"""`make prove`: load and faults, then the checks, each with its control, and one report."""

import argparse
import asyncio
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path
from random import Random, SystemRandom
from typing import Any, Final

from scripts.prove.check import Check, Found, NothingDamaged
from scripts.prove.checks import CHECKS, FOUND, verdict
from scripts.prove.database import Postgres, postgres
from scripts.prove.fleet import environment, fleet
from scripts.prove.load import Load
from scripts.prove.observed import Observed
from scripts.prove.sizes import SIZES, Size
from scripts.prove.tenants import tenants
from service.model.offline.app import OfflineModel, serving

PACE: Final = 0.02


async def prove(size: Size, seed: int, folder: Path) -> list[str]:
    """Print the report; returns the faults, one in each line."""
    this = asyncio.current_task()
    assert this is not None
    # A signal to this process must end its child processes too.
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, this.cancel)
    async with postgres(folder / "postgres") as server:
        observed = await _loaded(size, seed, folder, server)
        await server.stop_syncing()
        _print_counts(observed)
        wrong: list[str] = []
        print("\nwhat | counted | breaches | control", flush=True)
        for check in CHECKS:
            wrong += await _checked(check, observed, server, seed)
    return wrong


async def _loaded(size: Size, seed: int, folder: Path, server: Postgres) -> Observed:
    chosen = tenants(size, Random(f"{seed} tenants"))
    model = OfflineModel(pace=PACE)
    async with serving(model) as model_url:
        settings_of_service = environment(server.url, model_url, chosen)
        async with fleet(size.processes, settings_of_service, folder / "service.log") as running:
            load = Load(size, seed, chosen, running, server, folder)
            await load.run()
    load.observed.counts["model calls"] = model.calls
    return load.observed


async def _checked(check: Check, observed: Observed, server: Postgres, seed: int) -> list[str]:
    """Print one line of the report; returns its faults."""
    async with server.connection() as database:
        found = await check.find(observed, database)
    control = await _controlled(check, observed, server)
    line = f"{check.name} | {found.counted:,} | {len(found.breaches)} | {control}"
    print(line, flush=True)
    wrong = verdict(check, found, control)
    for each in wrong:
        print(f"BREACH (seed {seed}): {each}", flush=True)
    return wrong


async def _controlled(check: Check, observed: Observed, server: Postgres) -> str:
    """Run the negative control of a check; returns its outcome in words."""
    try:
        found = await _control(check, observed, server)
    except NothingDamaged as error:
        return f"impossible, nothing to damage: {error}"
    return FOUND if found.breaches else "not found"


async def _control(check: Check, observed: Observed, server: Postgres) -> Found:
    if check.distort is not None:
        async with server.connection() as database:
            return await check.find(check.distort(observed), database)
    assert check.damage is not None
    async with server.copy() as damaged:
        await check.damage(damaged)
        return await check.find(observed, damaged)


def _print_counts(observed: Observed) -> None:
    counts = observed.counts.copy()
    counts["messages"] = len(observed.messages)
    counts["messages acknowledged"] = sum(bool(each.replies) for each in observed.messages)
    counts["readers"] = len(observed.readings)
    counts["requests answered"] = sum(observed.answers.values())
    counts.update(f"messages refused: {each.refusal}" for each in observed.messages if each.refusal)
    ends = {each.reply_id: each.envelope for each in observed.finals}.values()
    counts.update(f"replies ended: {_reason(each)}" for each in ends)
    for name, number in sorted(counts.items()):
        print(f"{name}: {number:,}")


def _reason(envelope: Any) -> str:
    code = envelope["error"]["code"] if "error" in envelope else envelope.get("reason")
    return f"{envelope['subtype']} {code}" if code else str(envelope["subtype"])


def _chosen() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", choices=tuple(SIZES), default="small")
    parser.add_argument(
        "--seed", type=int, help="the seed of an earlier run, to repeat its random choices"
    )
    return parser.parse_args()


def main() -> None:
    """Prove, print, and fail if there is a fault."""
    chosen = _chosen()
    seed = SystemRandom().randrange(2**32) if chosen.seed is None else chosen.seed
    print(f"size {chosen.size}, seed {seed}", flush=True)
    began = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="throughline-"))
    folder.chmod(0o755)
    wrong = asyncio.run(prove(SIZES[chosen.size], seed, folder))
    print(f"\nseconds: {time.monotonic() - began:.0f}")
    if wrong:
        sys.exit(f"{len(wrong)} BREACHES (seed {seed}), first: {wrong[0]}\nAll is in {folder}")
    shutil.rmtree(folder)
    print("All checks held, and the control of each check found its damage.")


if __name__ == "__main__":
    main()
