import { expect } from "vitest";

import { browserTest } from "../support/browser/browser-test.ts";
import { startGateway } from "../support/gateway/gateway.ts";
import { execute } from "../support/gateway/graphql-client.ts";

const test = browserTest.extend("gateway", { scope: "file" }, async ({ redis }, { onCleanup }) => {
  const gateway = await startGateway({ redis: redis.url, model: "offline" });
  onCleanup(() => gateway.close());
  return gateway;
});

test("GraphiQL sends its first example and shows the reply, within its policy", async ({ gateway, visitor }) => {
  const page = await visitor.open(gateway.url);
  await page.getByRole("button", { name: "Execute query" }).click();
  await page.getByRole("menuitem", { name: "Send" }).click();
  await page.getByText("COMPLETED").waitFor();
  const { session } = await execute<{ session: object }>(gateway.url, '{ session(sessionId: "jim") { messageCount } }');
  expect(session).toEqual({ messageCount: 2 });
});
