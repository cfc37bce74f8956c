"""Subscribers: each takes note of every order, under a name of its own.

python subscriber.py warehouse
soorma run subscriber:warehouse subscriber:accounts
"""

import sys

from soorma import Agent


def subscriber(name):
    # The name is what counts: agents of one name share the events, each other name gets a copy of
    # its own.
    agent = Agent(name=name, description="Takes note of orders", events_consumed=["order.placed"])

    @agent.on_event("order.placed", topic="business-facts")
    async def note_order(event, _context):
        print(f"[{name}] notes an order of {event.data['item']}", flush=True)

    return agent


warehouse, accounts = subscriber("warehouse"), subscriber("accounts")

if __name__ == "__main__":
    if len(sys.argv) != 2 or not sys.argv[1].strip():
        sys.exit("Give the subscriber a name: python subscriber.py warehouse")
    subscriber(sys.argv[1]).run()
