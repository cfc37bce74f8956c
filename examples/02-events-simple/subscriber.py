"""A subscriber: takes note of each order, under the name it is given.

python subscriber.py warehouse
"""

import sys

from soorma import Agent

if len(sys.argv) != 2 or not sys.argv[1].strip():
    sys.exit("Give the subscriber a name: python subscriber.py warehouse")

# The name is what counts: agents of one name share the events, each other name gets a copy of its own.
name = sys.argv[1]
subscriber = Agent(name=name, description="Takes note of orders", events_consumed=["order.placed"])


@subscriber.on_event("order.placed", topic="business-facts")
async def note_order(event, _context):
    print(f"[{name}] notes an order of {event.data['item']}", flush=True)


if __name__ == "__main__":
    subscriber.run()
