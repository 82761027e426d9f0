"""python doomed.py FOLDER START: fills a shard until it is killed. Says `+ number checksum` when a message was
acknowledged, and `- number` before it is finished. START is the time its clock begins at."""

from __future__ import annotations

import asyncio
import random
import sys
import zlib
from pathlib import Path

from gatepost.mail.clock import FakeClock
from queue_samples import CONTENT, DEFERRED, DELIVERED, new_message, results, shard_in


async def main(folder: Path, clock: FakeClock) -> None:
    async with shard_in(folder, clock) as shard:

        async def send() -> None:
            while True:
                content = CONTENT + random.randbytes(random.choice((500, 4000, 9000, 30_000)))
                queued = await shard.add(new_message(shard, content=content), keep_active=random.random() < 0.9)
                say(f"+ {queued.number} {zlib.crc32(content)}")
                if queued.activated_at and random.random() < 0.5:
                    say(f"- {queued.number}")
                    shard.finish(results(queued, DELIVERED))
                elif queued.activated_at and random.random() < 0.5:
                    shard.finish(results(queued, DEFERRED, clock.now()))

        await asyncio.gather(*(send() for _ in range(20)))


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), FakeClock(float(sys.argv[2]))))
