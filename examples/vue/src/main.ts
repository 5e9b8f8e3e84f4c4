import { createParleyClient } from "parley-client";
import { createApp } from "vue";
import Chat from "./Chat.vue";

const client = createParleyClient({ url: "/graphql" });
createApp(Chat, { client, sessionId: "jim" }).mount("#app");
