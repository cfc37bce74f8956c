"""The companion: replies to messages, and logs what was said."""

import chat

from soorma import RetryPolicy, Worker

companion = Worker(
    name="companion",
    description="Talks with users, and remembers them",
    capabilities=["conversation"],
    events_consumed=["message.written"],
    events_produced=["message.replied"],
    retry=RetryPolicy(max_attempts=3),
)


@companion.on_startup
def introduce():
    print(f"[companion] replies with {chat.NAME}", flush=True)


@companion.on_event("message.written", topic="action-requests")
async def reply(event, context):
    text = event.get("data", {}).get("text")
    memory = context.memory

    # Logged for the session and the user of the event, and read in the next line.
    await memory.log_interaction(None, "user", text)
    history = await memory.get_recent_history(session_id=event.session_id, max_tokens=1000)
    facts = await memory.search_knowledge(text[:1000], limit=5, max_tokens=300, min_score=0.1)

    # A model costs time and money: what it has replied is recorded at once, and a later attempt
    # does not ask again.
    said = await context.step(
        "reply", chat.reply, history.messages(), [fact.content for fact in facts]
    )
    await memory.log_interaction(None, "assistant", said)

    await context.bus.publish(
        event_type="message.replied", topic="action-results", data={"text": said}
    )


if __name__ == "__main__":
    companion.run()
