"""The knowledge base: stores the handbook, a passage for each section.

Run again, it replaces the sections that have changed and forgets those that are gone.

python knowledge.py
"""

import asyncio
import re
import sys
from pathlib import Path

from soorma import PlatformContext, SoormaError

HANDBOOK = Path(__file__).with_name("handbook.md")


def sections(text: str) -> list[dict]:
    """Splits the handbook at its headings."""
    found = []
    for section in re.split(r"^## ", text, flags=re.MULTILINE)[1:]:
        title = section.partition("\n")[0]
        anchor = re.sub(r"\W+", "-", title.lower())
        found.append(
            {
                "content": section.strip(),
                "external_id": f"{HANDBOOK.name}#{anchor}",
                "source": HANDBOOK.name,
            }
        )
    return found


async def load(memory) -> None:
    before = {
        passage.external_id: passage.id
        async for passage in memory.list_knowledge(source=HANDBOOK.name)
    }

    # All of them in one commit. An equal passage is not stored twice, and one with the same
    # external_id closes the one before.
    passages = sections(HANDBOOK.read_text("utf-8"))
    done = await memory.store_knowledge_batch(passages)

    now = {passage["external_id"] for passage in passages}
    gone = before.keys() - now
    for external_id in gone:
        await memory.delete_knowledge(before[external_id])

    kept = sum(one.outcome == "restated" for one in done)
    replaced = sum(bool(one.closed) for one in done)
    print(
        f"{len(done)} sections: {len(done) - kept - replaced} new, {replaced} replaced, "
        f"{kept} unchanged; {len(gone)} forgotten"
    )


async def main() -> None:
    async with PlatformContext.from_env(source="librarian") as context:
        await load(context.memory)
        # Passages are found by their words at once, and by their meaning once they are embedded.
        hits = await context.memory.search_knowledge("opening hours", wait=60)
    how = f"words and by meaning ({hits.model})" if hits.model else "words"
    print(f"They are found by {how}")


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except KeyboardInterrupt:
        sys.exit("Interrupted")
    except SoormaError as error:
        sys.exit(str(error))
