"""The client: asks the questions on the command line, or a few of its own.

python ask.py "How much is the deposit for an electric bike?"
"""

import asyncio
import sys

from soorma import EventClient, SoormaError
from soorma.errors import TimedOut

PATIENCE_SECONDS = 60
QUESTIONS = [
    "How much is the deposit for an electric bike?",
    "What does it cost to return a bike late?",
    "What does a trailer cost?",
    "I had a crash. Whom do I phone?",  # in other words than the handbook's
    "What is the wifi password?",  # not in the handbook
]
SEARCHED = {"text": "by words", "hybrid": "by words and by meaning"}


async def main(questions: list[str]) -> None:
    async with EventClient(agent_id="asker") as client:
        searched = ""
        for question in questions:
            print(question)
            reply = await client.request(
                "question.asked",
                {"question": question},
                response_event="question.answered",
                timeout=PATIENCE_SECONDS,
            )
            print(f"  {reply.data['answer']}")
            for cited in reply.data["citations"]:
                print(f"  [{cited['number']}] {cited['source']}, passage {cited['id']}")
            searched = SEARCHED[reply.data["mode"]]
    print(f"Searched {searched}")


if __name__ == "__main__":
    if not all(question.strip() for question in sys.argv[1:]):
        sys.exit('Ask something: python ask.py "How much is the deposit for an electric bike?"')
    try:
        asyncio.run(main(sys.argv[1:] or QUESTIONS))
    except TimedOut:
        sys.exit(
            f"No answer within {PATIENCE_SECONDS} s. Does the answerer run? ./start.sh starts it."
        )
    except KeyboardInterrupt:
        sys.exit("Interrupted")
    except SoormaError as error:
        sys.exit(f"No answer: {error}")
