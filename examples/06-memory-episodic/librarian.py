"""The librarian: turns what users say into facts that outlast the session."""

import chat

from soorma import RetryPolicy, Worker

librarian = Worker(
    name="librarian",
    description="Keeps facts about users from what they say",
    capabilities=["consolidation"],
    events_consumed=["memory.stored"],
    retry=RetryPolicy(max_attempts=3),
    max_concurrency=1,  # what was said first is consolidated first
)


@librarian.on_event("memory.stored", topic="system-events")
async def consolidate(event, context):
    memory = context.memory
    known = {fact.attribute: fact async for fact in memory.list_knowledge() if is_fact(fact)}
    for said in await new_statements(memory, event.data):
        # Recorded, as a model may find other facts when it is asked again.
        facts = await context.step(
            f"find in {said.number}", chat.find_facts, said.content, sorted(known)
        )
        for found in facts:
            attribute, fact = found["attribute"], found["fact"]
            if attribute in known and known[attribute].metadata["said"] > said.number:
                continue  # this event comes late: something newer is known

            # The fact takes the place of the one before. An equal one is not stored twice.
            await memory.store_knowledge(
                fact,
                subject="user",
                attribute=attribute,
                source="conversation",
                metadata={"session": said.session_id, "said": said.number},
            )
            print(f"[librarian] {attribute}: {fact}", flush=True)


def is_fact(passage):
    return passage.subject == "user" and passage.source == "conversation"


async def new_statements(memory, stored):
    """What users have said of the interactions that the event names, the oldest first."""
    found = []
    for session_id in stored["sessions"]:
        new, before = set(stored["interactions"]), None
        while new:
            page = await memory.get_recent_history(session_id=session_id, before=before)
            found += [said for said in page.interactions if said.id in new and said.role == "user"]
            new -= {said.id for said in page.interactions}
            before = page.next
            if before is None:
                break
    return sorted(found, key=lambda said: said.number)


if __name__ == "__main__":
    librarian.run()
