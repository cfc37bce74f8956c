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
        async for passage in memory.list_knowledge()
        if passage.source == HANDBOOK.name
    }

    # All of them in one commit. An equal passage is not stored twice, and one with the same
    # external_id closes the one before.
    passages = sections(HANDBOOK.read_text("utf-8"))
    ids = await memory.store_knowledge_batch(passages)
    now = {passage["external_id"]: id_ for passage, id_ in zip(passages, ids, strict=True)}

    gone = before.keys() - now.keys()
    for external_id in gone:
        await memory.delete_knowledge(before[external_id])

    new = now.keys() - before.keys()
    kept = {external_id for external_id in now if now[external_id] == before.get(external_id)}
    print(
        f"{len(now)} sections: {len(new)} new, {len(now) - len(new) - len(kept)} replaced, "
        f"{len(kept)} unchanged; {len(gone)} forgotten"
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
