"""The answerer: searches the knowledge base and lets the model answer from what it has found."""

import model

from soorma import RetryPolicy, Worker

answerer = Worker(
    name="answerer",
    description="Answers questions from the handbook, and cites it",
    capabilities=["answers"],
    events_consumed=["question.asked"],
    events_produced=["question.answered"],
    retry=RetryPolicy(max_attempts=3),
)


@answerer.on_startup
def introduce():
    print(f"[answerer] answers with {model.NAME}", flush=True)


@answerer.on_event("question.asked", topic="action-requests")
async def answer(event, context):
    question = event.get("data", {}).get("question")
    hits = await context.memory.search_knowledge(question, limit=4, max_tokens=800)
    print(f"[answerer] {len(hits)} found ({hits.mode}) for {question!r}", flush=True)

    if not hits.is_known:
        reply = {"answer": "Nothing is known yet. Load the handbook: python knowledge.py"}
    elif not hits:
        reply = {"answer": "The handbook does not say."}
    else:
        passages = [{"id": hit.id, "source": hit.external_id, "text": hit.content} for hit in hits]
        # A model costs time and money: what it has answered is recorded at once, with what it
        # cites, and a later attempt does not ask again.
        reply = await context.step("answer", model.answer, question, passages)

    await context.bus.publish(
        event_type="question.answered",
        topic="action-results",
        data={"citations": [], "mode": hits.mode, **reply},
    )


if __name__ == "__main__":
    answerer.run()
