import { startOpenAI } from "../test/support/model/openai-server.ts";
import { takeOrders } from "./orders.ts";

// A server that speaks OpenAI's protocol and answers at once, so that what a turn costs with OpenAI's real client can be told.

takeOrders({}, (await startOpenAI()).baseUrl);
