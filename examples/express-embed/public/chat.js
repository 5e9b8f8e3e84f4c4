import { createParleyClient } from "parley-client";

// gateway.fetch() answers no WebSockets: events come as server-sent events.
const client = createParleyClient({ url: "/graphql", live: "sse" });
const chat = client.session("jim");
const form = document.querySelector("form");
const list = form.querySelector("div");

chat.subscribe(() => {
  const shown = chat.getSnapshot().messages.map(({ role, text }) => {
    const line = document.createElement("p");
    line.dataset.role = role;
    line.textContent = text;
    return line;
  });
  list.replaceChildren(...shown);
});

form.addEventListener("submit", (event) => {
  event.preventDefault();
  const input = form.querySelector("input");
  chat.send(input.value).catch(() => {}); // what cannot be sent stands in `messages`, with its error
  input.value = "";
});
