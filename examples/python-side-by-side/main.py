"""One conversation, two programs: Parley answers a message, LangChain adds one, and each sees what the other wrote."""

import json
import os
import urllib.request

from langchain_community.chat_message_histories import RedisChatMessageHistory

parley_url = os.environ.get("PARLEY_URL", "http://localhost:4000")
# The URL of Redis that the gateway's npm start prints. Parley has no prefix unless HISTORY_KEY_PREFIX gives it one.
history = RedisChatMessageHistory("jim", url=os.environ["REDIS_URL"], key_prefix="")


def ask_parley(query: str) -> dict:
    body = json.dumps({"query": query}).encode()
    request = urllib.request.Request(f"{parley_url}/graphql", body, {"content-type": "application/json"})
    with urllib.request.urlopen(request) as response:
        answer = json.load(response)
    if "errors" in answer:
        raise RuntimeError(answer["errors"])
    return answer["data"]


ask_parley("""mutation { sendMessage(input: { sessionId: "jim", text: "Hi! I'm Jim." }) { reply { text } } }""")
history.add_user_message("What is my name?")

print("Parley reads:")
page = ask_parley("""{ session(sessionId: "jim") { messages(last: 50) { nodes { role text } } } }""")
for message in page["session"]["messages"]["nodes"]:
    print(f"  {message['role']}: {message['text']}")

print("LangChain reads:")
for message in history.messages:
    print(f"  {message.type}: {message.content}")
