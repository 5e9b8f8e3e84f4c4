import { connection } from "next/server";
import { createParleyClient } from "parley-client";
import { parleyUrl } from "../parley-url";
import { Chat } from "./chat";

export default async function Page() {
  await connection(); // each request reads the session anew
  // One client for each request: in a module it would be all users' together.
  const client = createParleyClient({ url: `${parleyUrl}/graphql` });
  return <Chat sessionId="jim" seed={await client.load("jim")} />;
}
